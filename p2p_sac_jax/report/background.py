"""What stands behind the results: code, machine, configuration."""

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


def run_provenance(data: RunData) -> Section:
    """Code, machine and configuration of one run."""
    run, summary = data.run, data.summary
    commit = str(run.get("git_commit") or "unknown")
    versions = run.get("versions", {}).items()
    rows: list[tuple[str, Any]] = [
        ("started", run.get("started")),
        ("code", commit + " (with uncommitted changes)" * bool(run.get("git_dirty"))),
        ("configuration", run.get("config_hash")),
        ("seeds", ", ".join(map(str, run.get("seeds", [])))),
        ("platform", run.get("platform")),
        ("devices", ", ".join(map(str, run.get("devices", [])))),
        ("layout", run.get("layout")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions)),
    ]
    timings = {
        "compile_s": "compile time (s)",
        "wall_s": "wall time (s)",
        "resumed_at": "resumed at step",
        "env_steps_per_s": "environment steps per second, all runs",
        "updates_per_s": "gradient updates per second, all runs",
    }
    rows += [(label, summary[n]) for n, label in timings.items() if n in summary]
    kinds = {
        "plain": "Soft Actor-Critic on the peer's own steps, without exchange",
        "memory": "with a price memory and model rollouts, without exchange",
        "network": "the same, and it exchanges messages with its neighbours",
    }
    arms = [
        [data.look(arm).label, kinds.get(arm, "as configured")] for arm in data.arms
    ]
    default = dict(flatten(dataclasses.asdict(TrainConfig())))
    used = [(name, labels.value(value)) for name, value in flatten(data.config)]
    changed = [
        [name, labels.value(value), labels.value(default.get(name, labels.MISSING))]
        for name, value in flatten(data.config)
        if default.get(name) != value
    ]
    content = {
        "run": Table("Provenance", ["what", "value"], rows, "words"),
        "arms": Table("Arms", ["arm", "what it is"], arms, "words"),
        "changed": Table(
            "Configuration changed", ["field", "this run", "default"], changed, "words"
        ),
        "config": Table("Configuration", ["field", "this run"], used, "words"),
    }
    return Section("provenance", "Provenance", content)


def sweep_provenance(data: SweepData) -> Section:
    """Code, machine and dates of the runs, and what differs between them."""
    runs = {id(run): run for point in data.sweep.points for run in point.runs if run}
    metas = [run.meta for run in runs.values()]
    rows: list[tuple[str, Any]] = [
        ("sweep", data.sweep.meta.get("name")),
        ("different runs", len(metas)),
        ("seeds", ", ".join(map(str, data.sweep.seeds))),
    ]
    for field, name in _ALIKE.items():
        values = Counter(_flat(meta.get(field)) for meta in metas)
        if values.keys() == {"unknown"}:
            continue
        if len(values) == 1:
            rows.append((name, next(iter(values))))
        else:
            listed = "; ".join(f"{v} ({n} runs)" for v, n in values.most_common())
            rows.append((f"{name}: differs between runs", listed))
    started = sorted(str(m["started"])[:16] for m in metas if m.get("started"))
    if started:
        ends = dict.fromkeys((started[0], started[-1]))
        rows.append(("started", " to ".join(ends).replace("T", " ")))
    for field, name in (("run_s", "running (s)"), ("compile_s", "compiling (s)")):
        rows.append((f"{name}, all runs", sum(meta.get(field, 0.0) for meta in metas)))
    content = {
        "runs": Table("Provenance", ["what", "value"], rows, "words"),
        "config": Table(
            "Configuration", ["arm", "what it sets"], _settings(data), "words"
        ),
    }
    return Section("provenance", "Provenance", content)


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
    arms = {
        labels.arm(arm): {name: labels.value(value) for name, value in sets.items()}
        for arm, sets in data.sweep.arms.items()
    }
    rows = []
    for owner, sets in {"every arm": base, "swept": swept, **arms}.items():
        for name, value in sets.items():
            usual = labels.value(default.get(name, labels.MISSING))
            rows.append((owner, f"{name} = {value} (default {usual})"))
    return rows + [(arm, "the base as it is") for arm, sets in arms.items() if not sets]


def _flat(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {value}" for name, value in content.items())
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "unknown" if content is None else str(content)
