"""Single peers of a run: the worst, what they charged, the demand they estimate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2p_sac_jax.report import figures, labels, row_figures, theme
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import SMALL, WIDE, Array, Quantity, Trace, line
from p2p_sac_jax.report.page import Figure, Section
from p2p_sac_jax.report.run_data import RunData
from p2p_sac_jax.report.sweep_data import FinishedPoint

_MOST_PEERS = 20  # of the dot plot
_PRICE = Quantity("price (usual price = 1)", "price")
_NAMES = ("price", "believed", "low", "high", "true")  # of a row of stores.json


class Diagnostic(NamedTuple):
    """A field of the rows that gets a small chart; its template has the text."""

    field: str
    title: str
    y_label: str
    log: bool = False


TRAINING = (
    Diagnostic("behaviour_std", "Exploration", "behaviour std (action units)"),
    Diagnostic("alpha", "Temperature", "alpha", log=True),
    Diagnostic("critic_loss", "Critic loss", "loss (reward²)", log=True),
    Diagnostic("demand_slope", "Estimated price sensitivity", "slope (per unit price)"),
    Diagnostic("td_error", "TD error", "TD error (reward)"),
)


def worst(run: RunData) -> Section:
    """The worst peer against time, and every peer at the end."""
    data = run.data
    y = data.score._replace(label=f"{data.score.label}, worst peer")
    traces, final = [], {}
    for point in data.points:
        evaluated = np.array([_evaluated(one) for one in point.runs])
        lowest = np.fmin.reduce(evaluated, axis=2)
        traces.append(curves.over_seeds(point, lambda one: one.curves.steps, lowest))
        final[point.look] = evaluated[:, -1].mean(axis=0)
    best = data.levels(data.headline(), "worst")[:1]
    main = final[data.headline().look]
    hardest = [int(peer) for peer in np.argsort(main, kind="stable")[:_MOST_PEERS]]
    usual = data.historical(data.headline(), "final")
    dots = row_figures.dots(
        "Every peer at the end" if len(hardest) == len(main) else "Hardest peers",
        [run.peer_name(peer) for peer in hardest],
        {look: values[hardest] for look, values in final.items()},
        data.score,
        None if usual is None else ("historical price (mean)", usual),
    )
    title = "Lowest of all peers"
    content = {
        "lowest": figures.lines(title, traces, data.time, y, levels=best),
        "peers": dots,
        "ends": figures.ends(traces, y.unit),
        "shown": len(hardest),
        "seeds": data.seeds,
    }
    return Section("worst", "The worst peer", content, "Worst peer")


def chosen_peers(run: RunData) -> list[tuple[str, int]]:
    """The best, median and worst peer of the main arm, first seed."""
    final = _evaluated(run.data.headline().runs[0])[-1]
    ranked = [int(p) for p in np.argsort(final, kind="stable") if np.isfinite(final[p])]
    if len(ranked) < 3:
        places = ("best", "worst") if len(ranked) == 2 else ("only",)
        return list(zip(places, reversed(ranked), strict=False))
    middle = ranked[len(ranked) // 2]
    return [("best", ranked[-1]), ("median", middle), ("worst", ranked[0])]


def prices(run: RunData) -> Section | None:
    """Prices charged in training by a few peers, beside the best price and the cost."""
    made = []
    for place, peer in chosen_peers(run):
        paths = [(point, run.prices(point.arm, peer)) for point in _with_memory(run)]
        values = [v for _, path in paths if path for v in list(path.values())[1:]]
        if not values:
            continue
        known = np.concatenate(values)
        known = known[np.isfinite(known)]
        margin = 0.06 * (np.ptp(known) + 1e-3)
        for point, path in paths:
            if path is None:
                continue
            charged = point.look._replace(label="charged", dashes="solid")
            looks = {"cost": theme.COST, "price": charged}
            looks["oracle_price"] = theme.BEST_PRICE
            figure = figures.lines(
                f"{run.peer_name(peer)} ({place}), {point.look.label}",
                [line(look, path["step"], path[name]) for name, look in looks.items()],
                run.data.time,
                _PRICE,
                limits=(known.min() - margin, known.max() + margin),
                tail=8,
                width=1.1,
                size=(WIDE[0], 2.4),
            )
            made.append(figure)
    content = {"figures": made, "arm": run.data.headline().look.label}
    content["seed"] = run.data.sweep.seeds[0]
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
    for place, peer in chosen_peers(run):
        rows = [row for row in usable if row["peer"] == peer]
        if not rows:
            continue
        traces = []
        for row in rows:
            look = shown[row["run"]]
            columns = (np.array(row[name], float) for name in _NAMES[:4])
            traces.append(Trace(look.label, look, *columns))
        truth = line(theme.TRUTH, traces[0].x, np.array(rows[0]["true"], float))
        top = min(max(t.high.max() for t in traces), 2.5 * truth.middle.max())
        figure = figures.lines(
            f"{run.peer_name(peer)} ({place})",
            [*traces, truth],
            _PRICE,
            Quantity("demand (usual units = 1)", "units"),
            start=None,
            limits=(0.0, 1.05 * top),
            size=SMALL,
        )
        made.append(figure)
    title = "Demand estimated and true"
    return Section("demand", title, {"figures": made}, "Demand") if made else None


def diagnostics(run: RunData) -> Section | None:
    """Small charts of training."""
    content = {"figures": charts(run, TRAINING), "seeds": run.data.seeds}
    known = bool(content["figures"])
    return Section("diagnostics", "Diagnostics", content) if known else None


def charts(run: RunData, wanted: tuple[Diagnostic, ...], arm: str = "") -> list[Figure]:
    """A small chart of each field that the rows hold, of one arm or of all."""
    made = []
    for one in wanted:
        traces = []
        for point in run.data.points:
            steps, values = run.field(point.arm, one.field)
            if steps.size and arm in ("", point.arm):
                ends = curves.middle_half(values)
                trace = Trace(point.look.label, point.look, steps, *ends)
                spread_steps, spread = run.field(point.arm, f"{one.field}_std")
                if np.array_equal(spread_steps, steps):
                    half = curves.middle_half(spread)[0]
                    middle = trace.middle
                    trace = trace._replace(low=middle - half, high=middle + half)
                traces.append(trace)
        if traces:
            x, y = run.data.time, Quantity(one.y_label)
            figure = figures.lines(one.title, traces, x, y, log=one.log, size=SMALL)
            made.append(figure._replace(facts={"field": one.field}))
    return made


def _evaluated(run: curves.RunResult) -> Array:
    """[E, P] evaluations, NaN where a peer is byzantine or has not joined."""
    there = curves.present(run.curves, run.curves.steps)
    return np.where(there, curves.by_peer(run), np.nan)


def _with_memory(run: RunData) -> list[FinishedPoint]:
    """The arms shown store by store: those with a memory, where there are any."""
    points = [p for arm in ("network", "memory") for p in run.data.of_arm(arm)]
    return points or run.data.points[-2:]
