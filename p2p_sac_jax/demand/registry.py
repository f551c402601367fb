"""Price memories by name; the names are the choices of ``memory.kind``."""

from __future__ import annotations

from collections.abc import Callable

from p2p_sac_jax.demand.base import PriceMemory
from p2p_sac_jax.demand.bins import make_binned_memory
from p2p_sac_jax.demand.no_memory import make_no_memory
from p2p_sac_jax.demand.posterior import make_demand_memory

# (F, number of demand coefficients or 0; K, number of context cells) -> memory
PRICE_MEMORIES: dict[str, Callable[[int, int], PriceMemory]] = {
    "demand": lambda features, _: (
        make_demand_memory(features) if features else make_no_memory()
    ),
    "bins": lambda _, cells: make_binned_memory(cells),
    "none": lambda *_: make_no_memory(),
}
