"""What stands behind the results: limits, code, machine, configuration."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import flatten
from p2p_sac_jax.report import labels
from p2p_sac_jax.report.page import Section, Table
from p2p_sac_jax.report.run_data import RunData
from p2p_sac_jax.report.sweep_data import SweepData

# What the grid, not the configuration, decides.
_OF_THE_GRID = ("seed", "seeds", "arms", "checkpoint_every")
_ALIKE = {
    "git_commit": "code",
    "git_dirty": "uncommitted changes",
    "versions": "versions",
    "platform": "platform",
    "device_kind": "device",
    "layout": "layout",
    "layout_devices": "devices used",
}
# By demand world, what demand does.
DEMAND_TEXTS = {
    "logit": "follows a logit model",
    "constant_elasticity": "has the store's elasticity at every price",
    "linear": "falls linearly in the price, with the store's slope at its usual price",
    "threshold": "follows a logit model and falls by a fixed share above a price",
    "kink": "follows a logit model and reacts more strongly above a price",
    "cost_correlated": "follows a logit model and rises with the store's own cost",
    "heavy_tails": "follows a logit model, with heavy tails and unseen promotions",
    "counts": "follows a logit model, and sales are Poisson counts",
    "stock_outs": "follows a logit model, and sales end with the stock of the week",
    "drift": "follows a logit model whose price sensitivity and utility drift",
}
_TIMES = {
    "compile_s": "compile time (s)",
    "wall_s": "wall time (s)",
    "resumed_at": "resumed at step",
    "env_steps_per_s": "environment steps per second, all arms and seeds",
    "updates_per_s": "gradient updates per second, all arms and seeds",
}


def sections(data: SweepData, run: RunData | None = None) -> list[Section]:
    """What the results cannot show; code, machine and configuration of the runs."""
    columns = ["arm", "what it sets"]
    content = {
        "runs": Table("Provenance", ["what", "value"], _provenance(data, run), "words"),
        "config": Table("Configuration", columns, _settings(data), "words"),
    }
    demand = {w: DEMAND_TEXTS.get(w, f"is that of the world {w}") for w in data.worlds}
    return [
        Section("limits", "What this cannot show", {"demand": demand}, "Limits"),
        Section("provenance", "Provenance", content),
    ]


def _provenance(data: SweepData, run: RunData | None) -> list[tuple[str, Any]]:
    """Code, machine and dates of the runs, and what differs between them."""
    runs = {id(one): one for point in data.sweep.points for one in point.runs if one}
    metas = [one.meta for one in runs.values()]
    rows: list[tuple[str, Any]] = [
        ("different runs", len(metas)),
        ("seeds", ", ".join(map(str, data.sweep.seeds))),
    ]
    for field, name in _ALIKE.items():
        values = Counter(_flat(meta.get(field)) for meta in metas)
        if len(values) > 1:
            listed = "; ".join(f"{v} ({n} runs)" for v, n in values.most_common())
            rows.append((f"{name}: differs between runs", listed))
        elif "unknown" not in values:
            rows.append((name, next(iter(values))))
    started = sorted(str(m["started"])[:16] for m in metas if m.get("started"))
    if started:
        ends = dict.fromkeys((started[0], started[-1]))
        rows.append(("started", " to ".join(ends).replace("T", " ")))
    if run is not None:
        times = _TIMES.items()
        return rows + [(name, run.summary[f]) for f, name in times if f in run.summary]
    for field, name in (("run_s", "running (s)"), ("compile_s", "compiling (s)")):
        total = sum(meta.get(field, 0.0) for meta in metas)
        rows.append((f"{name}, all runs", total))
    return rows + _rates(metas)


def _rates(metas: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Steps per second by number of peers, of runs in a program of their own size."""
    seconds: Counter[int] = Counter()
    steps: Counter[int] = Counter()
    masked = sum(bool(meta.get("masked_to")) for meta in metas)
    for meta in metas:
        if meta.get("run_s") and not meta.get("masked_to"):
            peers = meta["config"]["population"]["peers"]
            seconds[peers] += meta["run_s"]
            steps[peers] += peers * meta["config"]["steps"]
    rows: list[tuple[str, Any]] = [
        (f"environment steps per second, {peers} peers", steps[peers] / seconds[peers])
        for peers in sorted(seconds)
    ]
    left_out = "ran masked in a program of more peers, and are left out of these rates"
    return rows + [("runs", f"{masked} of {len(metas)} {left_out}")] * bool(masked)


def _settings(data: SweepData) -> list[tuple[str, str]]:
    """Fields of the base that differ, what was swept, and what every arm sets."""
    default = dict(flatten(dataclasses.asdict(TrainConfig())))
    base = {
        name: labels.value(value)
        for name, value in flatten(data.sweep.meta["config"])
        if default.get(name) != value and name not in _OF_THE_GRID
    }
    swept = {
        name: ", ".join(map(labels.value, values))
        for name, values in data.sweep.factors.items()
    }
    owners = {"every arm": base, "swept": swept}
    for arm, sets in data.sweep.arms.items():
        owners[labels.arm(arm)] = {n: labels.value(v) for n, v in sets.items()}
    rows = [
        (owner, f"{n} = {v} (default {labels.value(default.get(n, labels.MISSING))})")
        for owner, sets in owners.items()
        for n, v in sets.items()
    ]
    unset = [labels.arm(arm) for arm, sets in data.sweep.arms.items() if not sets]
    return rows + [(arm, "the base as it is") for arm in unset]


def _flat(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {value}" for name, value in content.items())
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "unknown" if content is None else str(content)
