"""The shipped calibration table, and the populations of sellers drawn from it.

All NumPy: the market turns the result into arrays of its own. What the figures are
and are not is written in ``data/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.config import ConfigError

Table = dict[str, NDArray]

# Shares of households or people, log income, distances and relative volumes of the
# nearest warehouse store and the nearest five competitors: bayesm's names.
DEMOGRAPHICS = (
    *("age60", "educ", "ethnic", "income", "hhlarge", "workwom"),
    *("hval150", "sstrdist", "sstrvol", "cpdist5", "cpwvol5"),
)
CONTEXT = (*DEMOGRAPHICS, "unit_cost", "brand_tier")
_INTEGERS = frozenset({"store", "brand", "weeks", "held_out"})

# By name and price per ounce: Tropicana Premium and Florida's Natural are premium,
# Dominick's own label is the lowest tier, the national brands are between.
_TIERS = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1], np.float32)
# A third of brand 11's stores are inelastic, so no price there is a sensible optimum;
# the same holds for single series, and for a few whose costs are bookkeeping errors.
_BRANDS = 10
_MAX_ELASTICITY = -1.0
_MAX_COST_VOL = 0.3


class MarketCalibration(NamedTuple):
    """Parameters of P sellers; float32 unless stated otherwise, prices relative."""

    elasticity: NDArray[np.float32]  # [P] own-price, below -1
    cross_elasticity: NDArray[np.float32]  # [P] by the rivals' price index
    unit_cost: NDArray[np.float32]  # [P] cost / usual price
    cost_vol: NDArray[np.float32]  # [P] stationary sd of log cost
    cost_persistence: NDArray[np.float32]  # [P] per week
    rival_vol: NDArray[np.float32]  # [P] stationary sd of the log rival price
    rival_persistence: NDArray[np.float32]  # [P] per week
    season_amplitude: NDArray[np.float32]  # [P] of log demand
    season_phase: NDArray[np.float32]  # [P] radians, in (-pi, pi]
    reference_ratio: NDArray[np.float32]  # [P] reference effect / alpha, informational
    demand_noise: NDArray[np.float32]  # [P] sd of log demand
    context: NDArray[np.float32]  # [P, C] public descriptors, named by ``CONTEXT``
    store: NDArray[np.int32]  # [P]
    brand: NDArray[np.int32]  # [P] 1..10


def parse_table(text: str) -> Table:
    """Columns [rows] by name, from the CSV text of ``format_table``."""
    header, *lines = text.splitlines()
    values = np.array([line.split(",") for line in lines])
    return {
        name: values[:, i].astype(np.int64 if name in _INTEGERS else np.float64)
        for i, name in enumerate(header.split(","))
    }


def format_table(table: Table) -> str:
    """CSV text of a table: integers as such, the rest to eight digits."""
    rows = zip(*(table[name].tolist() for name in table), strict=True)
    lines = [",".join(f"{value:.8g}" for value in row) for row in rows]
    return "\n".join([",".join(table), *lines]) + "\n"


def load_table() -> Table:
    """The shipped table: one row per store x brand, sorted by store, then brand.

    Returns:
      Columns [rows] by name: those of ``estimation.estimate_table`` and the store's
      ``DEMOGRAPHICS``, standardised over stores.
    """
    data = resources.files("p2p_sac_jax.environments") / "data" / "orange_juice.csv"
    return parse_table(data.read_text(encoding="ascii"))


def select_population(
    name: str,
    peers: int,
    held_out: bool = False,
    newcomers: int = 0,
    draw: str = "quantiles",
    seed: int = 0,
) -> MarketCalibration:
    """Sellers of a named population, the same ones at every call.

    ``chain`` takes stores of brand 1, ``brands`` one brand per store, never the same
    store twice, brands 1 to 10 in turn. Peers come by store id, so that neighbours on
    a ring are not alike; newcomers come last.

    Args:
      name: ``chain`` or ``brands``.
      peers: number of sellers, newcomers included.
      held_out: draw all of them from the stores kept out of training.
      newcomers: how many of them, the last ones, come from the held-out stores.
      draw: ``quantiles`` takes the sellers at even quantiles of elasticity, and keeps
        out of training the stores that the table names. ``random`` draws both anew
        for every seed: as many stores are kept out, and any seller is as likely as
        any other.
      seed: of ``random``.

    Raises:
      ConfigError: the stores do not suffice.
    """
    if not 0 <= newcomers <= peers:
        raise ConfigError(
            f"population.newcomers={newcomers} must lie between 0 and"
            f" population.peers={peers}"
        )
    table, population = load_table(), POPULATIONS[name]
    eligible = (
        (table["brand"] <= population.brands)
        & (table["elasticity"] < _MAX_ELASTICITY)
        & (table["cost_vol"] <= _MAX_COST_VOL)
    )
    generator = np.random.default_rng((seed, 0)) if draw == "random" else None
    kept_out = _kept_out(table, eligible, generator)
    reserved, trained = eligible & kept_out, eligible & ~kept_out
    spare = _stores(table, reserved)
    most = spare if held_out else _stores(table, trained) + newcomers
    if not 1 <= peers <= most:
        kind = "held-out stores" if held_out else "stores for training, plus newcomers"
        raise ConfigError(
            f"population.peers={peers} must lie between 1 and {most}"
            f" ({kind}, population {name})"
        )
    if newcomers > spare:
        raise ConfigError(
            f"population.newcomers={newcomers} must be at most {spare}"
            f" (held-out stores, population {name})"
        )
    if held_out:
        rows = population.draw(table, reserved, peers, generator)
    else:
        late = population.draw(table, reserved, newcomers, generator)
        early = population.draw(table, trained, peers - newcomers, generator)
        rows = np.concatenate([early, late])
    return _calibration(table, rows)


def market_names(calibration: MarketCalibration) -> list[str]:
    """How each peer is called in reports, such as ``store 12 · brand 1``."""
    pairs = zip(calibration.store, calibration.brand, strict=True)
    return [f"store {store} · brand {brand}" for store, brand in pairs]


def _stores(table: Table, rows: NDArray) -> int:
    return len(np.unique(table["store"][rows]))


def _kept_out(
    table: Table, eligible: NDArray, generator: np.random.Generator | None
) -> NDArray:
    """[rows] whether the store is kept out of training; by the table, or drawn."""
    kept_out = table["held_out"] == 1
    if generator is None:
        return kept_out
    stores = generator.permutation(np.unique(table["store"][eligible]))
    return np.isin(table["store"], stores[: _stores(table, eligible & kept_out)])


def _one_brand(
    table: Table, pool: NDArray, peers: int, generator: np.random.Generator | None
) -> NDArray:
    """Rows [peers] at even quantiles of elasticity, or drawn; by store id."""
    rows = np.flatnonzero(pool)
    if generator is not None:
        return np.sort(generator.choice(rows, peers, replace=False))
    rows = rows[np.argsort(table["elasticity"][rows], kind="stable")]
    middle = (np.arange(peers) + 0.5) * len(rows) / max(peers, 1)
    return np.sort(rows[middle.astype(int)])


def _brands_in_turn(
    table: Table, pool: NDArray, peers: int, generator: np.random.Generator | None
) -> NDArray:
    """Rows [peers] of distinct stores, brands in turn, by store id."""
    quantile = np.zeros(len(pool))
    for brand in range(1, _BRANDS + 1):
        rows = np.flatnonzero(pool & (table["brand"] == brand))
        rank = np.argsort(np.argsort(table["elasticity"][rows], kind="stable"))
        quantile[rows] = (rank + 0.5) / max(len(rows), 1)
    free, chosen = pool.copy(), []
    for i in range(peers):
        brand, turn = i % _BRANDS, i // _BRANDS
        turns = (peers - brand + _BRANDS - 1) // _BRANDS
        # The last stores may lack the brand whose turn it is; any other will do.
        own = free & (table["brand"] == brand + 1)
        rows = np.flatnonzero(own if own.any() else free)
        if generator is None:
            row = rows[np.argmin(np.abs(quantile[rows] - (turn + 0.5) / turns))]
        else:
            row = generator.choice(rows)
        free &= table["store"] != table["store"][row]
        chosen.append(row)
    return np.sort(np.array(chosen, dtype=np.int64))


class StorePopulation(NamedTuple):
    """A kind of population: its brands, and how rows of a pool are chosen."""

    brands: int
    # (table, pool [rows], peers, generator or None for quantiles) -> rows [peers]
    draw: Callable[[Table, NDArray, int, np.random.Generator | None], NDArray]


# The choices of ``population.name``.
POPULATIONS = {
    "chain": StorePopulation(1, _one_brand),
    "brands": StorePopulation(_BRANDS, _brands_in_turn),
}


def _calibration(table: Table, rows: NDArray) -> MarketCalibration:
    chosen = {name: column[rows] for name, column in table.items()}
    tier = _TIERS[chosen["brand"] - 1]
    # Centred and scaled as the market's observation of cost.
    cost = 4.0 * (chosen["unit_cost"] - 0.7)
    context = np.stack([*(chosen[name] for name in DEMOGRAPHICS), cost, tier], axis=1)
    ratio = np.maximum(chosen["reference_effect"], 0.0) / -chosen["elasticity"]
    floats = {
        name: chosen[name].astype(np.float32)
        for name in MarketCalibration._fields
        if name in chosen and name not in _INTEGERS
    }
    return MarketCalibration(
        **floats,
        reference_ratio=ratio.astype(np.float32),
        context=context.astype(np.float32),
        store=chosen["store"].astype(np.int32),
        brand=chosen["brand"].astype(np.int32),
    )
