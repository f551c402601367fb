"""What stands behind a sweep: limits, what was left out, code and configuration."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import flatten
from p2p_sac_jax.report.elements import table, text
from p2p_sac_jax.report.sweep import words
from p2p_sac_jax.report.sweep.data import Omitted, SweepData

# What the grid, not the configuration, decides.
_OF_THE_GRID = ("seed", "seeds", "arms", "checkpoint_every")
_ALIKE = (
    ("git_commit", "code"),
    ("git_dirty", "uncommitted changes"),
    ("versions", "versions"),
    ("platform", "platform"),
    ("device_kind", "device"),
    ("layout", "layout"),
    ("layout_devices", "devices used"),
)


def limits(data: SweepData, omitted: Iterable[Omitted]) -> str:
    """What the sweep cannot say, and figures it cannot have."""
    items = []
    if data.seeds == 1:
        items.append(
            "<b>1 seed: indicative.</b> Another seed draws other costs, shocks and"
            " networks; there is no interval, and nothing is claimed."
        )
    elif data.seeds < 10:
        items.append(
            f"<b>{data.seeds} seeds: a first look.</b> Intervals from fewer than ten"
            " seeds are too narrow: a nominal 95\u00a0% covers less."
        )
    if data.unit == "week":
        items.append(
            "<b>A calibrated simulator, not the world.</b> Demand follows a logit model"
            " whose parameters come from scanner data; competitors do not react."
        )
    items.append(
        "<b>Many comparisons.</b> Intervals hold one at a time; of many points a few"
        " exclude 0 by chance."
    )
    items += [
        f"<b>Not shown: {text(one.what)}</b>, as {text(one.why)}." for one in omitted
    ]
    inner = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{inner}</ul>"


def provenance(data: SweepData) -> str:
    """Code, machine and dates of the cells, and what differs between them."""
    cells = {
        id(cell): cell for point in data.sweep.points for cell in point.runs if cell
    }
    metas = [cell.meta for cell in cells.values()]
    rows: list[tuple[str, Any]] = [
        ("sweep", data.sweep.meta.get("name")),
        ("different cells", len(metas)),
        ("seeds", ", ".join(map(str, data.sweep.seeds))),
    ]
    for field, name in _ALIKE:
        values = Counter(_flat(meta.get(field)) for meta in metas)
        if values.keys() == {"unknown"}:
            continue
        if len(values) == 1:
            rows.append((name, next(iter(values))))
        else:
            told = "; ".join(f"{v} ({n} cells)" for v, n in values.most_common())
            rows.append((f"{name}: differs between cells", told))
    started = sorted(
        str(meta["started"])[:16].replace("T", " ")
        for meta in metas
        if meta.get("started")
    )
    if started:
        rows.append(("started", " to ".join(dict.fromkeys((started[0], started[-1])))))
    for field, name in (("run_s", "running (s)"), ("compile_s", "compiling (s)")):
        rows.append((f"{name}, all cells", sum(meta.get(field, 0.0) for meta in metas)))
    return (
        '<div class="pair"><div class="card"><h3>Cells</h3>'
        + table(["what", "value"], rows, "Provenance", "words")
        + '</div><div class="card"><h3>Differences from the defaults</h3>'
        + _differences(data)
        + "</div></div>"
    )


def _differences(data: SweepData) -> str:
    """Fields of the base, then what every arm sets and what was swept."""
    default = dict(flatten(dataclasses.asdict(TrainConfig())))
    base = dict(flatten(data.sweep.meta["config"]))
    changed = {
        name: words.value(value)
        for name, value in base.items()
        if default.get(name) != value and name not in _OF_THE_GRID
    }
    swept = {
        name: ", ".join(map(words.value, values))
        for name, values in data.sweep.factors.items()
    }
    arms = {
        words.arm(arm): {name: words.value(value) for name, value in said.items()}
        for arm, said in data.sweep.arms.items()
    }
    rows = [
        (who, f"{name} = {value} (default {words.value(default.get(name, '–'))})")
        for who, said in {"every arm": changed, "swept": swept, **arms}.items()
        for name, value in said.items()
    ]
    rows += [(arm, "the base as it is") for arm, said in arms.items() if not said]
    return table(["arm", "what it sets"], rows, "Configuration", "words")


def _flat(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {value}" for name, value in content.items())
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "unknown" if content is None else str(content)
