#!/usr/bin/env bash
# All checks and timings of a GPU: make bench-gpu
# First argument: Python of the project; second: that of the baselines.
# A failure does not stop the rest; failures are listed at the end, exit status 1.
set -uo pipefail
python=$1 baselines=$2 out=${OUT:-runs/gpu}
peers=${PEERS:-1,4,16,64,256,1024,4096}
failed=()
mkdir -p "$out" || exit
nvidia-smi | tee "$out/nvidia-smi.txt"

# try NAME COMMAND...: prints the output of the command and keeps it in NAME.txt.
try() {
  local name=$1
  shift
  "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}

# Correctness before speed: the limit cases on the GPU itself, and CPU against GPU to
# 1e-4. tests/simulation/test_layouts.py needs two devices.
export JAX_DEFAULT_MATMUL_PRECISION=float32
try population "$python" -m pytest -n 0 tests/simulation/test_population.py
try accelerator "$python" -m pytest -n 0 -m accelerator tests/experiment/test_accelerator.py
unset JAX_DEFAULT_MATMUL_PRECISION

for precision in float32 tensorfloat32; do
  JAX_DEFAULT_MATMUL_PRECISION=$precision try "$precision" \
    "$python" -m benchmarks.bench --device=gpu --peers="$peers" \
    --out="$out/$precision.json" --figure="$out/$precision.svg"
done
try profile "$python" -m benchmarks.bench --profile --device=gpu --peers=1,1024

# The environment of the baselines has JAX for the CPU until now.
version=$("$baselines" -c 'import jax; print(jax.__version__)')
try install "$baselines" -m pip install --quiet "jax[cuda13]==$version"
backend=$("$baselines" -c 'import jax; print(jax.default_backend())' | tail -n 1)
if [ "${backend:-cpu}" = cpu ]; then
  echo "JAX of $baselines finds no GPU: baselines are left out" >&2
  failed+=(rejax)
else
  for count in ${peers//,/ }; do  # each in its own process: one may not fit
    try "rejax-$count" "$baselines" -m benchmarks.bench_peers \
      --sizes=standard,market --peers="$count" --baselines=rejax \
      --out="$out/rejax-$count.json"
  done
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
