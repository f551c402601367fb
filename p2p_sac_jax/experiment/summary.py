"""The figures a run is judged by, from its rows alone, and the closing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.metrics import Row, fraction

EARLY_STEPS = 50  # how long "early" is in ``earned_fraction_early``
_PREFIX = {"network": "", "memory": "isolated_", "plain": "plain_"}
_TITLE = {
    "network": "networked",
    "memory": "alone, own memory",
    "plain": "alone, plain SAC",
}


def summarise(config: TrainConfig, rows: list[Row]) -> dict[str, Any]:
    """Final score, earnings while learning and worst peer of every arm.

    ``*_fraction`` are shares of the oracle; ``earned_fraction`` counts every training
    step since the start, ``earned_fraction_early`` those up to ``EARLY_STEPS``.

    Args:
      config: of the run.
      rows: of ``metrics.jsonl``.

    Returns:
      Means over seeds by name; with more than one seed also ``intervals``, the 95 %
      bootstrap confidence interval of each mean. The sampling unit is the
      population, that is a seed.
    """
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [_figures(config, [r for r in rows if r["seed"] == s]) for s in seeds]
    values = {name: [one[name] for one in by_seed] for name in by_seed[0]}
    summary: dict[str, Any] = {"steps": config.steps, "seeds": len(seeds)}
    summary |= {name: _mean(of_seeds) for name, of_seeds in values.items()}
    if len(seeds) > 1:
        summary["intervals"] = {n: _interval(of) for n, of in values.items()}
    return summary


def _figures(config: TrainConfig, rows: list[Row]) -> dict[str, float]:
    """The figures of one seed."""
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == arm]
        last = next(r for r in mine if r["step"] == config.steps and "population" in r)
        prefix = _PREFIX[arm]
        figures[f"{prefix}score"] = last["score"]
        if "oracle_fraction" not in last:
            continue
        for name in ("oracle_fraction", "oracle_fraction_worst", "gap_closed"):
            figures[prefix + name] = last[name]
        figures["historical_fraction"] = last["baseline_fraction"]
        for suffix, until in (("", config.steps), ("_early", EARLY_STEPS)):
            name = f"{prefix}earned_fraction{suffix}"
            figures[name] = earned(mine, "achieved", until)
            usual = earned(mine, "baseline", until)
            figures[f"historical_earned_fraction{suffix}"] = usual
    return figures


def _interval(values: list[float]) -> list[float]:
    """95 % percentile bootstrap interval of the mean, the same at every call."""
    from scipy import stats  # slow to import, and one seed needs none of it

    drawn = stats.bootstrap(
        (np.array(values),), np.mean, method="percentile", rng=np.random.default_rng(0)
    )
    return [float(end) for end in drawn.confidence_interval]


def earned(rows: list[Row], name: str, until: int) -> float:
    """Share of the oracle's profit earned in training up to step ``until``.

    Args:
      rows: of one arm.
      name: "achieved", or "baseline" for the historical price.
      until: later steps do not count.

    Returns:
      Mean of the shares of every peer and seed that took part by then.
    """
    sums: dict[tuple[int, int], np.ndarray] = {}
    for row in rows:
        if "peer" in row:
            first = row["step"] - len(row["oracle"])
            if first >= until:
                continue
            steps = slice(0, until - first)
            pair = np.array([sum(row[name][steps]), sum(row["oracle"][steps])])
            key = row["seed"], row["peer"]
            sums[key] = sums.get(key, 0.0) + pair
    return _mean(fraction(*pair) for pair in sums.values())


def closing_table(config: TrainConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """Columns and rows of the closing table; cells are text."""
    arms = [arm for arm in _PREFIX if f"{_PREFIX[arm]}score" in summary]
    if "historical_fraction" not in summary:
        columns = ["", "return of an episode"]
        length = config.evaluation_weeks
        cells = [
            [_TITLE[arm], f"{summary[f'{_PREFIX[arm]}score'] * length:.1f}"]
            for arm in reversed(arms)
        ]
        return {"columns": columns, "rows": cells}
    early = f"first {EARLY_STEPS}"
    columns = ["", "final", "worst peer", "gap closed", "earned", early, "bytes/peer"]
    market = config.environment.name == "pricing"
    rows = [
        [
            "historical price" if market else "no action",
            _cell(summary, "historical_fraction"),
            "",
            "0%",
            _cell(summary, "historical_earned_fraction"),
            _cell(summary, "historical_earned_fraction_early"),
            "0",
        ]
    ]
    for arm in reversed(arms):
        prefix = _PREFIX[arm]
        shared = summary["bytes_shared_per_peer"] if arm == "network" else 0
        rows.append(
            [
                _TITLE[arm],
                _cell(summary, prefix + "oracle_fraction"),
                f"{summary[prefix + 'oracle_fraction_worst']:.3f}",
                f"{summary[prefix + 'gap_closed']:.0%}",
                _cell(summary, prefix + "earned_fraction"),
                _cell(summary, prefix + "earned_fraction_early"),
                f"{shared:,.0f}",
            ]
        )
    rows.append(["oracle", "1.000", "1.000", "100%", "1.000", "1.000", ""])
    return {"columns": columns, "rows": rows}


def _cell(summary: dict[str, Any], name: str) -> str:
    """A share, with its confidence interval where there is one."""
    text = f"{summary[name]:.3f}"
    if "intervals" in summary:
        low, high = summary["intervals"][name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
