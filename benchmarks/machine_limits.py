"""What the machine can do: its best matrix product and its copy bandwidth.

A limit that is measured in the same minutes as the loops shares their noise: clock
speed, other programs, a neighbour on the same memory. So ``Limits.measure`` is
called once in every turn, between the loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.experiment.devices import cores

_CPU_SIZES = (256, 512, 1024, 2048)  # rows and columns of square factors
_GPU_SIZES = (2048, 4096, 8192)
_COPY_BYTES = {"cpu": 1 << 28, "gpu": 1 << 30}  # read, and as many written
_BLOCK_S = 0.06  # each candidate runs about as long in every turn
_SPENT = 1e-9  # a clock that did not move


class Limit(NamedTuple):
    """Rates of the machine in one turn."""

    gemm: float  # FLOP/s of the best candidate at JAX's default precision of float32
    copy: float  # bytes/s, read and written bytes both counted
    by_candidate: dict[str, float]  # FLOP/s by "library shape", others included
    counted: tuple[str, ...]  # those that ``gemm`` is the best of


class _Candidate(NamedTuple):
    name: str
    call: Callable[[], Any]  # starts the work and waits for it
    work: float  # FLOP, or bytes
    counts: bool  # towards the limit


class Limits:
    """Products and copies, compiled and ready to be measured turn by turn.

    On a CPU: square float32 products by NumPy's BLAS, by XLA as one product over
    all cores, and by XLA as one product on each device; and a copy by one thread on
    every core. On accelerators: XLA's products at JAX's default precision, at full
    float32 and in TF32, and a copy; of each, one on every device at once.
    """

    def __init__(self, devices: int | None = None) -> None:
        """Compiles and warms up; devices must have been chosen before.

        Args:
          devices: how many accelerators the loops use, from the first; None is all.
            The cores of a CPU all count.
        """
        on_cpu = jax.default_backend() == "cpu"
        used = jax.devices()[: None if on_cpu else devices]
        sizes = _CPU_SIZES if on_cpu else _GPU_SIZES
        self._products = [
            candidate
            for size in sizes
            for candidate in (_on_cpu if on_cpu else _on_accelerator)(size, used)
        ]
        number = _COPY_BYTES["cpu" if on_cpu else "gpu"]
        self._copy = (
            _copy_by_threads(number) if on_cpu else _copy_on_devices(number, used)
        )
        for candidate in [*self._products, self._copy]:
            candidate.call()

    def measure(self) -> Limit:
        """One turn; takes about a second."""
        rates = {product.name: _rate(product) for product in self._products}
        counted = tuple(product.name for product in self._products if product.counts)
        return Limit(
            gemm=max(rates[name] for name in counted),
            copy=_rate(self._copy),
            by_candidate=rates,
            counted=counted,
        )


def _rate(candidate: _Candidate) -> float:
    """Work a second over a block of calls."""
    calls, start = 0, time.perf_counter()
    while True:
        candidate.call()
        calls += 1
        spent = time.perf_counter() - start
        if spent > _BLOCK_S:
            return calls * candidate.work / max(spent, _SPENT)


def _factors(size: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    left, right = draws.standard_normal((2, size, size), np.float32)
    return left, right


def _on_cpu(size: int, devices: Sequence[Any]) -> list[_Candidate]:
    left, right = _factors(size)
    out = np.empty_like(left)

    def numpy() -> Any:
        return np.matmul(left, right, out=out)

    found = [
        _Candidate(f"numpy {size}", numpy, 2.0 * size**3, True),
        _product("xla ", size, devices[:1]),
    ]
    return found + ([_product("xla ", size, devices)] if len(devices) > 1 else [])


def _on_accelerator(size: int, devices: Sequence[Any]) -> list[_Candidate]:
    kinds: dict[str, Any] = {"default": None, "float32": "highest"}
    if jax.default_backend() == "gpu":
        kinds["tf32"] = jax.lax.DotAlgorithmPreset.TF32_TF32_F32
    return [
        _product(f"xla {name} ", size, devices, precision)._replace(
            counts=name == "default"
        )
        for name, precision in kinds.items()
    ]


def _product(
    name: str, size: int, devices: Sequence[Any], precision: Any = None
) -> _Candidate:
    """A compiled product of two square factors, the same on each device."""

    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=precision)

    factors = [_on_each(factor, devices) for factor in _factors(size)]
    program = jax.jit(multiply).lower(*factors).compile()
    count = len(devices)
    return _Candidate(
        name + (f"{count} x {size}" if count > 1 else f"{size}"),
        lambda: jax.block_until_ready(program(*factors)),
        count * 2.0 * size**3,
        True,
    )


def _on_each(array: np.ndarray, devices: Sequence[Any]) -> jax.Array:
    """A copy on each device; several are stacked [D, ...]."""
    count = len(devices)
    if count == 1:
        return jax.device_put(array, devices[0])
    mesh = jax.make_mesh((count,), ("d",), (AxisType.Auto,), devices=devices)
    each = NamedSharding(mesh, P("d"))
    shape = (count, *array.shape)
    return jax.make_array_from_callback(shape, each, lambda _: array[None])


def _copy_by_threads(number: int) -> _Candidate:
    """NumPy lets go of the interpreter lock while it copies."""
    threads = cores()
    source = np.ones(number // 4 // threads * threads, np.float32)
    target = np.zeros_like(source)
    parts = list(zip(np.split(target, threads), np.split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def copy() -> None:
        list(pool.map(lambda pair: np.copyto(*pair), parts))

    return _Candidate("copy", copy, 2.0 * source.nbytes, True)


def _copy_on_devices(number: int, devices: Sequence[Any]) -> _Candidate:
    source = _on_each(np.ones(number // 4, np.float32), devices)
    # A sum with one: XLA would hand a plain copy on without moving a byte.
    program = jax.jit(lambda x: x + 1.0).lower(source).compile()
    return _Candidate(
        "copy",
        lambda: jax.block_until_ready(program(source)),
        2.0 * source.nbytes,
        True,
    )
