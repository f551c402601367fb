#!/usr/bin/env bash
# One population over all GPUs of two nodes: sbatch launch/slurm_train.sh
# One task for each GPU; JAX reads ranks and devices from Slurm.
# The same script resumes what an earlier job left.
#SBATCH --job-name=p2p_sac
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@300
set -euo pipefail

# Shared by all nodes; it holds the environment that `make setup` made.
cd "${SLURM_SUBMIT_DIR:?submit this file with sbatch}"

# Since Slurm 22.05 srun does not take the number of cores from sbatch.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-4}"

exec srun .venv/bin/python -m launch.train \
  --config="${CONFIG:-configs/pricing.py}" \
  --workdir="${WORKDIR:-runs/slurm}" \
  --device=gpu "$@"
