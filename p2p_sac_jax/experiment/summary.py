"""The figures a run is judged by, from its rows alone, and the closing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.metrics import Row, fraction
from p2p_sac_jax.experiment.statistics import estimate

EARLY_STEPS = 50  # how long "early" is in ``earned_fraction_early``
NEWCOMER_STEPS = 25  # steps after joining in ``newcomer_earned_fraction``
_EARNINGS = ("achieved", "oracle", "baseline")
_PREFIX = {"network": "", "memory": "isolated_", "plain": "plain_"}
_TITLE = {
    "network": "networked",
    "memory": "alone, own memory",
    "plain": "alone, plain SAC",
}


def summarise(config: TrainConfig, rows: list[Row]) -> dict[str, Any]:
    """Final score, earnings while learning and worst peer of every arm.

    ``*_fraction`` are shares of the oracle; ``earned_fraction`` counts every training
    step since the start, ``earned_fraction_early`` those up to ``EARLY_STEPS``, and
    ``newcomer_earned_fraction`` the first ``NEWCOMER_STEPS`` of peers that join late.

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
        summary["intervals"] = {
            name: list(estimate([of_seeds], np.mean)[1:])
            for name, of_seeds in values.items()
        }
    return summary


def _figures(config: TrainConfig, rows: list[Row]) -> dict[str, float]:
    """The figures of one seed."""
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == arm]
        everyone = [row for row in mine if "peer" in row]
        peers = [row for row in everyone if not row.get("byzantine")]
        last = next(r for r in mine if r["step"] == config.steps and "population" in r)
        prefix = _PREFIX[arm]
        # Every byte that reached a peer had left another one.
        moved = sum(row["bytes_received"] for row in everyone)
        figures[f"{prefix}bytes_shared_per_peer"] = moved / config.population.peers
        figures[f"{prefix}score"] = last["score"]
        spent = [row["epsilon"] for row in everyone if row.get("epsilon") is not None]
        if spent:
            figures[f"{prefix}privacy_epsilon"] = max(spent)
        if "confidence_calibration" in last:
            figures[f"{prefix}confidence_calibration"] = last["confidence_calibration"]
        if "oracle_fraction" not in last:
            continue
        for name in ("oracle_fraction", "oracle_fraction_worst", "gap_closed"):
            figures[prefix + name] = last[name]
        figures["historical_fraction"] = last["baseline_fraction"]
        for name, part in _periods(config, peers).items():
            figures[prefix + name] = earned(part, "achieved")
            figures[f"historical_{name}"] = earned(part, "baseline")
    return figures


def _periods(config: TrainConfig, rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of peers that each figure of earnings counts, cut to its steps."""
    periods = {
        "earned_fraction": rows,
        "earned_fraction_early": _until(rows, EARLY_STEPS),
    }
    population = config.population
    if population.newcomers:
        veterans = population.peers - population.newcomers
        late = [row for row in rows if row["peer"] >= veterans]
        until = population.join_step + NEWCOMER_STEPS
        periods["newcomer_earned_fraction"] = _until(late, until)
    return periods


def _until(rows: list[Row], end: int) -> list[Row]:
    """The rows, and the part of a row, that lie before step ``end``."""
    cut = []
    for row in rows:
        left = end - (row["step"] - len(row["oracle"]))
        if left > 0:
            lists = {name: row[name][:left] for name in _EARNINGS}
            cut.append({**row, **lists})
    return cut


def earned(rows: list[Row], name: str) -> float:
    """Share of the oracle's profit earned in training, mean over peers.

    Args:
      rows: of the peers of one arm at one seed.
      name: "achieved", or "baseline" for the historical price.
    """
    sums: dict[int, np.ndarray] = {}
    for row in rows:
        pair = np.array([sum(row[name]), sum(row["oracle"])])
        sums[row["peer"]] = sums.get(row["peer"], 0.0) + pair
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
    earnings = {"earned": "earned_fraction"}
    earnings[f"first {EARLY_STEPS}"] = "earned_fraction_early"
    if config.population.newcomers:
        earnings[f"newcomers' first {NEWCOMER_STEPS}"] = "newcomer_earned_fraction"
    columns = ["", "final", "worst peer", "gap closed", *earnings, "bytes/peer"]
    market = config.environment.name == "pricing"
    rows = [
        [
            "historical price" if market else "no action",
            _cell(summary, "historical_fraction"),
            "",
            "0%",
            *(_cell(summary, f"historical_{name}") for name in earnings.values()),
            "0",
        ]
    ]
    for arm in reversed(arms):
        prefix = _PREFIX[arm]
        rows.append(
            [
                _TITLE[arm],
                _cell(summary, f"{prefix}oracle_fraction"),
                f"{summary[f'{prefix}oracle_fraction_worst']:.3f}",
                f"{summary[f'{prefix}gap_closed']:.0%}",
                *(_cell(summary, prefix + name) for name in earnings.values()),
                f"{summary[f'{prefix}bytes_shared_per_peer']:,.0f}",
            ]
        )
    rows.append(["oracle", "1.000", "1.000", "100%", *["1.000"] * len(earnings), ""])
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


def measured_channels(rows: list[Row], planned: dict[str, str]) -> dict[str, str]:
    """Which channels of the exchange acted, as the rows tell it.

    Args:
      rows: of ``metrics.jsonl``.
      planned: by channel, "active" or why the configuration leaves it silent.
    """
    signs = {
        "demand prior": "has_prior",
        "exploration std": "std_weight",
        "value target": "value_weight",
    }
    statuses = {}
    for channel, sign in signs.items():
        acted = any(row[sign] > 0 for row in rows if "peer" in row)
        silent = "silent: no peer ever heard anything" if not acted else "active"
        statuses[channel] = silent if planned[channel] == "active" else planned[channel]
    return statuses
