"""Price memories by name; the names are the choices of ``memory.kind``."""

from __future__ import annotations

from collections.abc import Callable

from p2p_sac_jax.coefficients import CoefficientSpec
from p2p_sac_jax.demand.base import PriceMemory
from p2p_sac_jax.demand.bins import make_binned_memory
from p2p_sac_jax.demand.no_memory import make_no_memory
from p2p_sac_jax.demand.posterior import make_demand_memory

# (coefficients of the environment's demand model or (), number of context cells)
PRICE_MEMORIES: dict[str, Callable[[tuple[CoefficientSpec, ...], int], PriceMemory]] = {
    "demand": lambda coefficients, _: make_demand_memory(coefficients),
    "bins": lambda _, num_cells: make_binned_memory(num_cells),
    "none": lambda *_: make_no_memory(),
}
