"""Single peers: the worst, all of them, what they charged and think of demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from p2p_sac_jax.ablation.measures import present
from p2p_sac_jax.report import figures, labels, row_figures, theme
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import SMALL, WIDE, Array, Quantity, Trace, line
from p2p_sac_jax.report.page import Figure, Section, Table
from p2p_sac_jax.report.row_figures import Mark
from p2p_sac_jax.report.run_data import RunData
from p2p_sac_jax.report.sweep_data import MOST_LINES, FinishedPoint, SweepData

_MOST_PEERS = 20  # rows of a figure
_PRICE = Quantity("price (usual price = 1)", "price")
_NAMES = ("price", "believed", "low", "high", "true")  # of a row of stores.json
# Fields of the rows that get a small chart; its template has the text.
_TRAINING = {
    "behaviour_std": ("Exploration", Quantity("behaviour std (action units)")),
    "alpha": ("Temperature", Quantity("alpha", log=True)),
    "critic_loss": ("Critic loss", Quantity("loss (reward²)", log=True)),
    "demand_slope": (
        "Estimated price sensitivity",
        Quantity("slope (per unit price)"),
    ),
    "td_error": ("TD error", Quantity("TD error (reward)")),
}


def worst(data: SweepData) -> Section:
    """The worst peer against time, and every peer at the end."""
    main, panel = data.headline(), next(iter(data.panels().values()))
    points = [main, *(p for p in panel if p is not main and _same_peers(p, main))]
    points = points[:MOST_LINES]
    y = data.score._replace(label=f"{data.score.label}, worst peer")
    traces: list[Trace] = []
    final: dict[theme.Look, tuple[Array, bool]] = {}
    for point in points:
        evaluated = np.array([_evaluated(one) for one in point.runs])
        lowest = np.fmin.reduce(evaluated, axis=2)
        traces.append(curves.over_seeds(data, point, curves.steps, lowest))
        ends = [_evaluated(one)[-1] for one in _same_peers(point, main)]
        final[point.look] = np.mean(ends, axis=0), data.compared(point)
    order = np.argsort(final[main.look][0], kind="stable")
    hardest = [int(peer) for peer in order[:_MOST_PEERS]]
    marks = []
    for peer in hardest:
        for look, (values, compared) in final.items():
            value = float(values[peer])
            if np.isfinite(value):
                name = main.names[peer]
                marks.append(Mark(name, look, value, value, value, (), compared))
    alone = main.drawn and data.seeds > 1
    seed = main.runs[0].meta["seed"] if alone else None
    usual = data.historical(main, "final")
    level = f"historical price (mean{' of all seeds' if alone else ''})"
    if usual is None:
        usual, level = float(np.nanmean(final[main.look][0])), f"{main.arm} (mean)"
    names = "Every peer at the end" if len(order) <= _MOST_PEERS else "Hardest peers"
    names += f", seed {seed}" * alone
    best = data.levels(main, "worst")[:1]
    content = {
        "lowest": figures.lines(
            "Lowest of all peers", traces, data.time, y, levels=best
        ),
        "peers": marks and row_figures.rows(names, marks, data.score, (level, usual)),
        "ends": figures.ends(traces, y.unit),
        "shown": len(hardest),
        "table": _every_peer(data, points),
        "seed": seed,  # the only one of single peers, where each seed draws its own
    }
    return Section("worst", "Single peers", content)


def _every_peer(data: SweepData, points: Sequence[FinishedPoint]) -> Table:
    """Last evaluation, and what was earned, of all peers under each point."""
    unit, columns = data.score.unit, {}
    for point in points:
        ends = [_evaluated(one)[-1] for one in _same_peers(point, points[0])]
        columns[f"final, {point.look.label}"] = np.mean(ends, axis=0)
    for point in points if data.has_oracle else ():
        runs = _same_peers(point, points[0])
        shares = [curves.earned_by_peer(one.curves)[-1] for one in runs]
        columns[f"earned, {point.look.label}"] = np.mean(shares, axis=0)
    byzantine = data.headline().runs[0].curves.byzantine
    rows = [
        [
            points[0].names[peer],
            f"{peer} (byzantine)" if byzantine[peer] else str(peer),
            *(labels.quantity(unit, float(v[peer])) for v in columns.values()),
        ]
        for peer in range(len(byzantine))
    ]
    return Table("Every peer", ["peer", "number", *columns], rows)


def _same_peers(point: FinishedPoint, main: FinishedPoint) -> list[curves.RunResult]:
    """Runs of a point with the peers of ``main``; of its first seed if drawn."""
    if point.names != main.names or point.drawn != main.drawn:
        return []
    seed = main.runs[0].meta["seed"]
    return [run for run in point.runs if not main.drawn or run.meta["seed"] == seed]


def chosen_peers(run: RunData) -> dict[str, int]:
    """The best, median and worst peer of the main arm, first seed."""
    final = _evaluated(run.data.headline().runs[0])[-1]
    ranked = [int(p) for p in np.argsort(final, kind="stable") if np.isfinite(final[p])]
    if not ranked:
        return {}
    middle = ranked[len(ranked) // 2]
    # Of a peer that has several places, the last one counts.
    places = {ranked[0]: "worst", middle: "median", ranked[-1]: "best"}
    return {place: peer for peer, place in reversed(places.items())}


def prices(run: RunData) -> Section | None:
    """Prices charged in training by a few peers, beside the best price and the cost."""
    made = []
    for place, peer in chosen_peers(run).items():
        paths = [(point, run.prices(point.arm, peer)) for point in _with_memory(run)]
        found = [(point, path) for point, path in paths if path]
        if not found:
            continue
        known = np.concatenate(
            [v for _, path in found for v in list(path.values())[1:]]
        )
        known = known[np.isfinite(known)]
        margin = 0.06 * (np.ptp(known) + 1e-3)
        for point, path in found:
            charged = point.look._replace(label="charged", dashes="solid")
            looks = {"cost": theme.COST, "price": charged}
            looks["oracle_price"] = theme.BEST_PRICE
            figure = figures.lines(
                f"{run.data.headline().names[peer]} ({place}), {point.look.label}",
                [line(look, path["step"], path[name]) for name, look in looks.items()],
                run.data.time,
                _PRICE,
                limits=(known.min() - margin, known.max() + margin),
                size=(WIDE[0], 2.4),
            )
            made.append(figure)
    content = {"figures": made}
    return Section("prices", "Prices charged", content, "Prices") if made else None


def demand(run: RunData) -> Section | None:
    """Demand curves estimated against true ones, of the same peers."""
    shown = {point.arm: point.look for point in _with_memory(run)}
    usable = [
        row
        for row in run.stores
        if row.get("seed") == run.data.sweep.seeds[0]
        and row.get("run") in shown
        and all(row.get(name) for name in _NAMES)
        and all(labels.finite(v) is not None for name in _NAMES for v in row[name])
    ]
    made = []
    for place, peer in chosen_peers(run).items():
        rows = [row for row in usable if row["peer"] == peer]
        if not rows:
            continue
        traces = []
        for row in rows:
            look = shown[row["run"]]
            x, middle, low, high = (np.array(row[name], float) for name in _NAMES[:4])
            traces.append(Trace(look, x, middle, low, high))
        truth = line(theme.TRUTH, traces[0].x, np.array(rows[0]["true"], float))
        top = min(max(t.high.max() for t in traces), 2.5 * truth.middle.max())
        figure = figures.lines(
            f"{run.data.headline().names[peer]} ({place})",
            [*traces, truth],
            _PRICE,
            Quantity("demand (usual units = 1)", "units"),
            limits=(0.0, 1.05 * top),
            size=SMALL,
        )
        made.append(figure)
    title = "Demand estimated and true"
    return Section("demand", title, {"figures": made}, "Demand") if made else None


def diagnostics(run: RunData) -> Section | None:
    """Small charts of training."""
    made = charts(run, _TRAINING)
    return Section("diagnostics", "Diagnostics", {"figures": made}) if made else None


def charts(
    run: RunData, wanted: Mapping[str, tuple[str, Quantity]], arm: str = ""
) -> list[Figure]:
    """A small chart of each field that the rows hold, of one arm or of all."""
    made = []
    for field, (title, y) in wanted.items():
        traces = []
        for point in run.data.points:
            steps, values = run.field(point.arm, field)
            if steps.size and arm in ("", point.arm):
                middle, low, high = curves.middle_half(values)
                spread_steps, spread = run.field(point.arm, f"{field}_std")
                if np.array_equal(spread_steps, steps):
                    half = curves.middle_half(spread)[0]
                    low, high = middle - half, middle + half
                look = point.look
                compared = run.data.compared(point)
                trace = Trace(look, steps, middle, low, high, compared=compared)
                traces.append(trace)
        if traces:
            figure = figures.lines(title, traces, run.data.time, y, size=SMALL)
            made.append(figure._replace(facts={"field": field}))
    return made


def _evaluated(run: curves.RunResult) -> Array:
    """[E, P] evaluations, NaN where a peer is byzantine or has not joined."""
    there = present(run.curves, run.curves.steps)
    return np.where(there, curves.by_peer(run), np.nan)


def _with_memory(run: RunData) -> list[FinishedPoint]:
    """The arms shown store by store: those with a memory, where there are any."""
    points = [p for arm in ("network", "memory") for p in run.data.of_arm(arm)]
    return points or run.data.points[-2:]
