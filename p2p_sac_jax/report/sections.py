"""The figures a seller asks for: learning, worst peer, prices, demand."""

from __future__ import annotations

from p2p_sac_jax.report import data as d
from p2p_sac_jax.report import figures
from p2p_sac_jax.report.elements import (
    cell,
    figure,
    paragraph,
    percent,
    section,
    table,
    text,
)
from p2p_sac_jax.report.style import look

_GOOD = 0.95  # the share of the oracle whose lasting arrival is reported


def learning(data: d.RunData) -> str:
    """Learning curves and profit earned while learning."""
    field, unit = data.score_field, data.unit
    by_arm = {arm: d.population_curves(data, arm, field) for arm in data.arms}
    peers = {arm: d.peer_curves(data, arm, field) for arm in data.arms}
    bands = {arm: d.middle_half(c) for arm, c in peers.items() if c.values.size}
    what = (
        "share of the best attainable profit" if data.has_oracle else "score per step"
    )
    references: list[tuple[str, d.Curves | float]] = []
    if data.has_oracle:
        references = [("best price", 1.0), *_historical(data, "baseline_fraction")]
    svg = figures.curves(
        data,
        "learning",
        f"Line chart: {what} of each arm against {unit} of training. "
        + _finals(data, field),
        what,
        by_arm,
        bands,
        references,
        share=data.has_oracle,
    )
    noise_free = (
        " and without noise, divided by the profit of the best price,"
        if data.has_oracle
        else ""
    )
    caption = (
        f"<b>What to see.</b> {_arrivals(data, by_arm)} <b>How measured.</b> Mean over"
        f" {_peer_count(data)} peers of what the learned policy earns without"
        f" exploration{noise_free} in evaluation episodes of"
        f" {_evaluation_length(data)} {unit}s that training never sees. Shaded: the"
        f" middle half of the peers.{_seed_lines(data)}"
    )
    earned = _earned(data) if data.has("earned_fraction") else ""
    return section(
        "learning",
        "Learning curves",
        f'<div class="pair">{figure(svg, caption, "Learned policy")}{earned}</div>',
        _numbers(data, by_arm),
    )


def worst(data: d.RunData) -> str:
    """The worst peer against time, and every peer at the end."""
    by_arm = {arm: d.worst_curves(data, arm) for arm in data.arms}
    what = "share of the best profit" if data.has_oracle else "score per step"
    finals = ", ".join(
        f"{look(arm, data.arms).label} {_value(data, curves)}"
        for arm, curves in by_arm.items()
    )
    line = figures.curves(
        data,
        "worst",
        f"Line chart: {what} of the worst peer of each arm. At the end: {finals}.",
        f"{what}, worst peer",
        by_arm,
        references=[("best price", 1.0)] if data.has_oracle else [],
        share=data.has_oracle,
    )
    dots = figures.peers_at_end(
        data, "peers", f"Dot plot: {what} of each peer and arm at the end.", what
    )
    shown = min(20, _peer_count(data))
    return section(
        "worst",
        "The worst peer",
        '<div class="pair">',
        figure(
            line,
            "<b>What to see.</b> A mean can hide a peer that is left behind. At the end"
            f" the worst peer stands at: {text(finals)}. <b>How measured.</b> The"
            " lowest of all peers at each evaluation; not always the same peer.",
            "Lowest of all peers",
        ),
        figure(
            dots,
            f"<b>What to see.</b> Who gains and who loses: {shown} peers, hardest"
            " first. <b>How measured.</b> The last evaluation of each arm"
            f"{', mean over seeds' if len(data.seeds) > 1 else ''}; noise and episodes"
            " are the same in every arm.",
            "Every peer at the end" if shown == _peer_count(data) else "Hardest peers",
        ),
        "</div>",
    )


def prices(data: d.RunData) -> str:
    """Training prices of a few stores, by arm."""
    arms = _compared(data)
    rows = []
    for place, peer in d.chosen_peers(data):
        paths = {arm: d.price_path(data, arm, peer) for arm in arms}
        found = {arm: path for arm, path in paths.items() if path is not None}
        if not found:
            continue
        limits = figures.price_limits(list(found.values()))
        for arm, path in found.items():
            words = f"{data.peer_name(peer)} ({place}), {look(arm, data.arms).label}"
            label = (
                f"Line chart: price charged, best price and unit cost by week, {words}."
            )
            svg = figures.price_paths(
                data, f"price-{arm}-{peer}", label, path, arm, limits
            )
            rows.append(figure(svg, "", words))
    if not rows:
        return ""
    caption = (
        "<b>What to see.</b> A good seller follows the black line: the price it would"
        " charge if it knew its demand, which moves with cost and season. <b>How"
        " measured.</b> The best, the median and the worst peer by last evaluation of"
        f" the arm “{text(look(data.main_arm, data.arms).label)}”, seed"
        f" {data.seeds[0]}. These are training weeks: the price charged"
        " <em>includes exploration noise</em>. Arms share the vertical axis; cost,"
        " season and noise of a store are the same in every arm."
    )
    return section(
        "prices",
        "Prices charged",
        f'<div class="pair">{"".join(rows)}</div>',
        paragraph(caption, "caption"),
    )


def beliefs(data: d.RunData) -> str:
    """Demand curves believed against true ones."""
    usable = [
        row
        for row in data.stores
        if row.get("seed") == data.seeds[0]
        and row.get("run") in _compared(data)
        and d.is_complete(row, "price", "believed", "low", "high", "true")
    ]
    usable.sort(key=lambda row: data.arms.index(row["run"]))
    known = sorted({row["peer"] for row in usable})
    chosen = [(place, peer) for place, peer in d.chosen_peers(data) if peer in known]
    chosen = chosen or [("", peer) for peer in known[:3]]
    panels = []
    for place, peer in chosen:
        rows = [row for row in usable if row["peer"] == peer]
        title = f"{data.peer_name(peer)} ({place})" if place else data.peer_name(peer)
        label = f"Line chart: demand against price, believed and true, {title}."
        panels.append(
            figure(figures.demand(data, f"demand-{peer}", label, rows), "", title)
        )
    if not panels:
        return ""
    caption = (
        "<b>What to see.</b> How close each belief (coloured) comes to the true demand"
        " (black), and how sure it is: the band is two posterior standard"
        " deviations wide on either side. Demand is known best near the prices that"
        " were charged. <b>How measured.</b> Demand in a week without season, at usual"
        " cost and rival price, relative to the store's usual units, after training."
        " A belief rests on the store's own weeks alone, without what neighbours add;"
        " the truth is read from the simulator and no learner ever sees it."
    )
    return section(
        "demand",
        "Demand believed and true",
        f'<div class="three">{"".join(panels)}</div>',
        paragraph(caption, "caption"),
    )


def _compared(data: d.RunData) -> list[str]:
    """The arms shown store by store: those that use a memory, where there are any."""
    remembering = [arm for arm in ("network", "memory") if arm in data.arms]
    return remembering or data.arms[-2:]


def _earned(data: d.RunData) -> str:
    field = "earned_fraction"
    by_arm = {arm: d.population_curves(data, arm, field) for arm in data.arms}
    svg = figures.curves(
        data,
        "earned",
        "Line chart: cumulative share of the best profit earned while learning. "
        + _finals(data, field),
        "share of the best profit, cumulative",
        by_arm,
        references=[
            ("best price", 1.0),
            *_historical(data, "baseline_earned_fraction"),
        ],
        share=True,
    )
    caption = (
        "<b>What to see.</b> Above the dashed line an arm has paid for its learning;"
        " below it, leaving prices alone would have earned more so far. <b>How"
        " measured.</b> Expected profit of the prices charged since week 0, exploration"
        " included, divided by the best attainable in the same weeks; mean over peers."
    )
    return figure(svg, caption, "Earned while learning")


def _historical(data: d.RunData, field: str) -> list[tuple[str, d.Curves | float]]:
    curves = d.population_curves(data, data.main_arm, field)
    return [("historical", curves)] if curves.values.size else []


def _numbers(data: d.RunData, by_arm: dict[str, d.Curves]) -> str:
    """The curves as a table of about ten moments, for reading and copying."""
    steps = by_arm[data.main_arm].steps
    if not steps.size:
        return ""
    chosen = sorted({int(steps[round(i * (len(steps) - 1) / 9)]) for i in range(10)})
    columns, series = [data.unit], []
    for title, field in (("", data.score_field), (" earned", "earned_fraction")):
        for arm in data.arms:
            curves = d.population_curves(data, arm, field)
            if curves.values.size:
                columns.append(look(arm, data.arms).label + title)
                series.append(
                    dict(zip(curves.steps.tolist(), d.mean(curves.values), strict=True))
                )
    rows = [[step, *(values.get(step) for values in series)] for step in chosen]
    inner = table(columns, rows, "Learning curves as numbers")
    return f"<details><summary>The curves as numbers</summary>{inner}</details>"


def _arrivals(data: d.RunData, by_arm: dict[str, d.Curves]) -> str:
    if not data.has_oracle:
        return "How fast each arm learns, and where it ends."
    there, not_yet = [], []
    for arm, curves in by_arm.items():
        name = text(look(arm, data.arms).label)
        step = d.sustained_step(curves, _GOOD)
        if step is None:
            not_yet.append(name)
        else:
            there.append(f"{name} from week {step}")
    if not there:
        return "No arm's mean has reached 95 % for good yet."
    words = f"The mean stays above 95 % for good: {', '.join(there)}"
    return f"{words}; not yet: {', '.join(not_yet)}." if not_yet else f"{words}."


def _finals(data: d.RunData, field: str) -> str:
    shown = cell if field == "score" else percent
    values = [
        f"{look(arm, data.arms).label} {shown(d.last(data, arm, field))}"
        for arm in data.arms
    ]
    return f"At the end: {', '.join(values)}."


def _value(data: d.RunData, curves: d.Curves) -> str:
    value = d.number(d.mean(curves.values)[-1]) if curves.steps.size else None
    return percent(value) if data.has_oracle else cell(value)


def _seed_lines(data: d.RunData) -> str:
    return " Thin lines: single seeds." if len(data.seeds) > 1 else ""


def _peer_count(data: d.RunData) -> int:
    return len({peer for _, _, peer in data.peers}) or len(data.run.get("peers", []))


def _evaluation_length(data: d.RunData) -> str:
    return cell(data.run.get("config", {}).get("evaluation_weeks"))
