"""The summary of a run, computed from its rows, and the closing table."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.metrics import Row, oracle_fraction
from p2p_sac_jax.experiment.statistics import FEWEST_SEEDS, estimate

EARLY_STEPS = 50  # steps counted in ``earned_fraction_early``
NEWCOMER_STEPS = 25  # after joining, counted in ``newcomer_earned_fraction``
NO_FIGURE = "–"
_EARNINGS = ("achieved", "oracle", "baseline")
_PREFIX = {"network": "", "memory": "isolated_", "plain": "plain_"}
_TITLE = {
    "network": "networked",
    "memory": "alone, own memory",
    "plain": "alone, plain SAC",
}


@np.errstate(invalid="ignore", over="ignore")  # of peers that diverged
def summarise(config: TrainConfig, rows: list[Row]) -> dict[str, Any]:
    """Final score, earnings in training and worst peer of every arm.

    ``*_fraction`` are shares of the oracle; ``earned_fraction`` counts every training
    step since the start, ``earned_fraction_early`` those up to ``EARLY_STEPS``, and
    ``newcomer_earned_fraction`` the first ``NEWCOMER_STEPS`` of peers that join late.

    Args:
      config: of the run.
      rows: of ``metrics.jsonl``.

    Returns:
      Means over seeds by name; from five seeds on also ``intervals``, the 95 %
      bootstrap confidence interval of each mean. The sampling unit is a population,
      that is a seed.
    """
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [
        _seed_summary(config, [row for row in rows if row["seed"] == seed])
        for seed in seeds
    ]
    means = {
        name: estimate([one.get(name, np.nan) for one in by_seed], np.mean)
        for name in by_seed[0]
    }
    summary: dict[str, Any] = {"steps": config.steps, "seeds": len(seeds)}
    summary |= {name: mean.value for name, mean in means.items()}
    if len(seeds) >= FEWEST_SEEDS:
        intervals = {name: [mean.low, mean.high] for name, mean in means.items()}
        summary["intervals"] = intervals
    return summary


def _seed_summary(config: TrainConfig, rows: list[Row]) -> dict[str, float]:
    """The summary of one seed."""
    summary: dict[str, float] = {}
    for arm in dict.fromkeys(row["run"] for row in rows):
        arm_rows = [row for row in rows if row["run"] == arm]
        peer_rows = [row for row in arm_rows if "peer" in row]
        honest = [row for row in peer_rows if not row.get("byzantine")]
        final = next(
            row
            for row in arm_rows
            if row["step"] == config.steps and "population" in row
        )
        prefix = _PREFIX[arm]
        # Bytes received by all peers are the bytes sent by all peers.
        shared = sum(row["bytes_received"] for row in peer_rows)
        summary[f"{prefix}bytes_shared_per_peer"] = shared / config.population.peers
        for name in ("evaluation_reward", "episode_return"):
            if name in final:
                summary[prefix + name] = final[name]
        spent = [row["epsilon"] for row in peer_rows if row.get("epsilon") is not None]
        if spent:
            summary[f"{prefix}privacy_epsilon"] = max(spent)
        if "confidence_calibration" in final:
            name = "confidence_calibration"
            summary[prefix + name] = final[name]
        if "oracle_fraction" not in final:
            continue
        for name in ("oracle_fraction", "oracle_fraction_worst", "gap_closed"):
            summary[prefix + name] = final[name]
        summary["historical_fraction"] = final["baseline_fraction"]
        for name, part in _periods(config, honest).items():
            summary[prefix + name] = _earned(part, "achieved")
            summary[f"historical_{name}"] = _earned(part, "baseline")
    return summary


def _periods(config: TrainConfig, rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of peers that each measure of earnings counts, cut to its steps."""
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
    """The rows before step ``end``, the last of them cut there."""
    cut = []
    for row in rows:
        left = end - (row["step"] - len(row["oracle"]))
        if left > 0:
            lists = {name: row[name][:left] for name in _EARNINGS}
            cut.append({**row, **lists})
    return cut


def _earned(rows: list[Row], name: str) -> float:
    """Share of the oracle's profit earned in training, mean over peers.

    Args:
      rows: of the peers of one arm at one seed.
      name: "achieved", or "baseline" for the historical price.
    """
    sums: dict[int, np.ndarray] = {}
    for row in rows:
        pair = np.array([sum(row[name]), sum(row["oracle"])])
        sums[row["peer"]] = sums.get(row["peer"], 0.0) + pair
    return float(np.mean([oracle_fraction(*pair) for pair in sums.values()]))


def closing_table(config: TrainConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """Columns and rows of the closing table; cells are text."""
    arms = [arm for arm in _PREFIX if f"{_PREFIX[arm]}evaluation_reward" in summary]
    if "historical_fraction" not in summary:
        columns = {
            "return of an episode": "episode_return",
            "reward of a step": "evaluation_reward",
        }
        cells = [
            [
                _TITLE[arm],
                *(_number(summary, _PREFIX[arm] + n, ".4g") for n in columns.values()),
            ]
            for arm in reversed(arms)
        ]
        return {"columns": ["", *columns], "rows": cells}
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
                _number(summary, f"{prefix}oracle_fraction_worst", ".3f"),
                _number(summary, f"{prefix}gap_closed", ".0%"),
                *(_cell(summary, prefix + name) for name in earnings.values()),
                f"{summary[f'{prefix}bytes_shared_per_peer']:,.0f}",
            ]
        )
    rows.append(["oracle", "1.000", "1.000", "100%", *["1.000"] * len(earnings), ""])
    return {"columns": columns, "rows": rows}


def _cell(summary: dict[str, Any], name: str) -> str:
    """A share, with its confidence interval if known."""
    text = _number(summary, name, ".3f")
    ends = summary.get("intervals", {}).get(name, (None, None))
    low, high = (figure(end, ".3f") for end in ends)
    return text if NO_FIGURE in (low, high) else f"{text} [{low}, {high}]"


def _number(summary: dict[str, Any], name: str, form: str) -> str:
    return figure(summary.get(name), form)


def figure(value: float | None, form: str) -> str:
    """A figure as text, a dash where it does not exist or is not finite."""
    known = value is not None and np.isfinite(value)
    return format(value, form) if known else NO_FIGURE


def measured_channels(rows: list[Row], planned: dict[str, str]) -> dict[str, str]:
    """Which channels of the exchange had an effect, by the rows.

    Args:
      rows: of ``metrics.jsonl``.
      planned: by channel, "active" or why the configuration switches it off.
    """
    columns = {
        "demand prior": "has_prior",
        "exploration std": "std_weight",
        "value target": "value_weight",
    }
    statuses = {}
    for channel, column in columns.items():
        active = any(row[column] > 0 for row in rows if "peer" in row)
        measured = "active" if active else "inactive: no message had any effect"
        statuses[channel] = (
            measured if planned[channel] == "active" else planned[channel]
        )
    return statuses
