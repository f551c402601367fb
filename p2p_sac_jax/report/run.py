"""The report of one run: its sections, in order."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.ablation.measures import BYTES, MEASURES, THRESHOLD
from p2p_sac_jax.experiment.metrics import Row
from p2p_sac_jax.report import (
    background,
    figures,
    labels,
    row_figures,
    run_diagnostics,
    theme,
)
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import SMALL, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Page, Section, Table, Tile
from p2p_sac_jax.report.run_data import (
    HISTORICAL,
    RunData,
    middle_half,
    sustained_step,
)

_MOST_PEERS = 20  # of the dot plot
_BEST = ("best price", 1.0)
_MEASURES = (
    *("final", "worst", "gap_closed", "earned", "earned_50", "newcomers_earned"),
    *("return_final", "return_worst", BYTES),
)


def run_page(data: RunData) -> Page:
    """Everything that the page of a run shows."""
    made = (
        _results(data),
        _learning(data),
        _worst(data),
        _prices(data),
        _demand(data),
        run_diagnostics.network(data),
        run_diagnostics.diagnostics(data),
        Section(
            "limits",
            "What this run can and cannot say",
            {"seeds": len(data.seeds), "has_oracle": data.has_oracle},
            "Limits",
        ),
        background.run_provenance(data),
    )
    problem = data.config["environment"]["name"]
    title = f"{data.peers} peers learning {problem} together"
    if problem == "pricing":
        title = f"{data.peers} sellers learning to price together"
    started = str(data.run.get("started") or "")[:16].replace("T", " ")
    population = f"{data.config['population']['name']} population"
    facts = [
        population if problem == "pricing" else "",
        f"{data.steps[-1]} of {data.config['steps']} {data.step}s",
        f"{len(data.arms)} arm{'s' if len(data.arms) != 1 else ''}",
        f"started {started}" if started else "",
    ]
    badges = [
        "1 seed: indicative" if len(data.seeds) == 1 else f"{len(data.seeds)} seeds"
    ]
    if not data.summary:
        badges.append("unfinished run")
    footer = f"Configuration {data.run.get('config_hash')}."
    return Page(
        title, list(filter(None, facts)), badges, list(filter(None, made)), footer
    )


def score_figure(data: RunData, size: tuple[float, float] = figures.WIDE) -> str:
    """Learning curves of all arms, with the best and the historical price."""
    traces = [_score_trace(data, arm) for arm in data.arms]
    label = f"Line chart: {data.score.label} of each arm against {data.time.label}."
    label += f" {figures.ends(traces, data.score.unit)}"
    if data.has_oracle:
        usual = _mean_over_peers(data, "baseline_fraction")
        traces.insert(0, _reference(data, theme.HISTORICAL, usual))
    levels = [_BEST] if data.has_oracle else []
    return figures.lines(
        "learning", label, traces, data.time, data.score, levels=levels, size=size
    )


def _results(data: RunData) -> Section:
    main, final = data.main_arm, "final" if data.has_oracle else "return_final"
    tiles = []
    for name in ("final", "worst", "earned", "gap_closed", "return_final"):
        unit = MEASURES[name].unit
        value = data.mean(main, name)
        if value is None:
            continue
        notes = [
            f"{data.look(arm).label} {labels.quantity(unit, data.mean(arm, name))}"
            for arm in (*reversed(data.arms), HISTORICAL)
            if arm != main and data.mean(arm, name) is not None
        ]
        label = labels.measure(name, data.step)
        if unit == "share" and name != "gap_closed":
            label += ", of the best profit"
        tiles.append(Tile(labels.quantity(unit, value), label, notes))
    content = {
        "arm": data.look(main).label,
        "last_step": int(data.steps[-1]),
        "step": data.step,
        "has_oracle": data.has_oracle,
        "final": data.mean(main, final),
        "usual": data.mean(HISTORICAL, "final"),
        "alone": data.mean("memory", "final") if main == "network" else None,
        "earned": data.mean(main, "earned"),
        "usual_earned": data.mean(HISTORICAL, "earned"),
        "tiles": tiles,
        "table": _closing_table(data),
    }
    return Section("results", "Results", content)


def _closing_table(data: RunData) -> Table:
    """A line for each arm and the historical price, a column for each measure."""
    arms = [*([HISTORICAL] if data.has_oracle else []), *data.arms]
    found = {arm: [data.value(arm, name) for name in _MEASURES] for arm in arms}
    shown = [any(row[i] for row in found.values()) for i in range(len(_MEASURES))]
    rows = []
    for arm, values in found.items():
        cells = [
            labels.MISSING
            if value is None
            else labels.band(MEASURES[name].unit, *value)
            for name, value, show in zip(_MEASURES, values, shown, strict=True)
            if show
        ]
        name = "historical price" if arm == HISTORICAL else data.look(arm).label
        rows.append([name, *cells])
    columns = [
        labels.column(name, data.step)
        for name, show in zip(_MEASURES, shown, strict=True)
        if show
    ]
    return Table("Results by arm", ["arm", *columns], rows)


def _learning(data: RunData) -> Section:
    scores = {arm: _score_trace(data, arm) for arm in data.arms}
    arrivals, missing = [], []
    for arm, trace in scores.items() if data.has_oracle else ():
        step = sustained_step(trace.x, trace.middle, THRESHOLD)
        label = data.look(arm).label
        arrivals += [f"{label} from {data.step} {step}"] * (step is not None)
        missing += [label] * (step is None)
    columns = [data.step, *(trace.label for trace in scores.values())]
    series = [trace.middle for trace in scores.values()]
    earned = None
    if data.has_oracle:
        traces = [_trace(data, data.look(arm), data.earned(arm)) for arm in data.arms]
        columns += [f"{trace.label} earned" for trace in traces]
        series += [trace.middle for trace in traces]
        y = Quantity("share of the best profit, cumulative", "share")
        label = "Line chart: cumulative share of the best profit earned while learning."
        usual = _reference(data, theme.HISTORICAL, data.earned(HISTORICAL))
        svg = figures.lines(
            "earned",
            f"{label} {figures.ends(traces, y.unit)}",
            [usual, *traces],
            data.time,
            y,
            levels=[_BEST],
        )
        earned = Figure(svg, "Earned while learning")
    last = len(data.steps) - 1
    moments = sorted({round(index * last / 9) for index in range(10)})
    rows = [[int(data.steps[i]), *(float(s[i]) for s in series)] for i in moments]
    content = {
        "policy": Figure(score_figure(data), "Learned policy"),
        "earned": earned,
        "numbers": Table("Learning curves as numbers", columns, rows),
        "has_oracle": data.has_oracle,
        "arrivals": ", ".join(arrivals),
        "missing": ", ".join(missing),
        "peers": data.peers,
        "weeks": data.config["evaluation_weeks"],
        "step": data.step,
        "seeds": len(data.seeds),
    }
    return Section("learning", "Learning curves", content, "Learning")


def _worst(data: RunData) -> Section:
    label = "share of the best profit" if data.has_oracle else data.score.label
    y = data.score._replace(label=f"{label}, worst peer")
    traces = []
    for arm in data.arms:
        lowest = np.fmin.reduce(data.by_peer(arm), axis=2)
        traces.append(_trace(data, data.look(arm), lowest))
    ends = figures.ends(traces, y.unit)
    line = figures.lines(
        "worst",
        f"Line chart: {y.label} of each arm. {ends}",
        traces,
        data.time,
        y,
        levels=[_BEST] if data.has_oracle else [],
    )
    main = data.final_by_peer(data.main_arm, data.seeds)
    hardest = [int(peer) for peer in np.argsort(main, kind="stable")[:_MOST_PEERS]]
    columns = {
        data.look(arm): data.final_by_peer(arm, data.seeds)[hardest]
        for arm in data.arms
    }
    usual = data.mean(HISTORICAL, "final")
    peers = row_figures.dots(
        "peers",
        f"Dot plot: {data.score.label} of each peer and arm at the end.",
        [data.peer_name(peer) for peer in hardest],
        columns,
        data.score.label,
        data.score.unit,
        None if usual is None else ("historical price (mean)", usual),
    )
    every = len(hardest) == data.peers
    content = {
        "lowest": Figure(line, "Lowest of all peers"),
        "peers": Figure(peers, "Every peer at the end" if every else "Hardest peers"),
        "ends": ends,
        "shown": len(hardest),
        "seeds": len(data.seeds),
    }
    return Section("worst", "The worst peer", content, "Worst peer")


def _prices(data: RunData) -> Section | None:
    made = []
    for place, peer in data.chosen_peers():
        paths = {arm: data.prices(arm, peer) for arm in _compared(data)}
        known = {arm: path for arm, path in paths.items() if path is not None}
        if not known:
            continue
        names = ("cost", "price", "oracle_price")
        values = np.concatenate([path[n] for path in known.values() for n in names])
        values = values[np.isfinite(values)]
        margin = 0.06 * (np.ptp(values) + 1e-3)
        limits = values.min() - margin, values.max() + margin
        for arm, path in known.items():
            charged = data.look(arm)._replace(label="charged", dashes="solid")
            looks = zip((theme.COST, charged, theme.BEST_PRICE), names, strict=True)
            traces = [_line(look, path["step"], path[name]) for look, name in looks]
            title = f"{data.peer_name(peer)} ({place}), {data.look(arm).label}"
            svg = figures.lines(
                labels.identifier("price", arm, str(peer)),
                f"Line chart: price charged, best price and unit cost, {title}.",
                [trace for trace in traces if np.isfinite(trace.middle).any()],
                data.time,
                Quantity("price (usual price = 1)", "price"),
                limits=limits,
                tail=8,
                width=1.1,
                size=(figures.WIDE[0], 2.4),
            )
            made.append(Figure(svg, title))
    facts = {"arm": data.look(data.main_arm).label, "seed": data.seeds[0]}
    content = {"figures": made, **facts}
    return Section("prices", "Prices charged", content, "Prices") if made else None


def _demand(data: RunData) -> Section | None:
    arms = _compared(data)
    usable = [
        row
        for row in data.stores
        if row.get("seed") == data.seeds[0]
        and row.get("run") in arms
        and _complete(row, "price", "believed", "low", "high", "true")
    ]
    usable.sort(key=lambda row: data.arms.index(row["run"]))
    known = sorted({row["peer"] for row in usable})
    chosen = [(place, peer) for place, peer in data.chosen_peers() if peer in known]
    made = []
    for place, peer in chosen or [("", peer) for peer in known[:3]]:
        rows = [row for row in usable if row["peer"] == peer]
        price, truth = (np.array(rows[0][name]) for name in ("price", "true"))
        traces = [
            Trace(
                data.look(row["run"]).label,
                data.look(row["run"]),
                *(np.array(row[n]) for n in ("price", "believed", "low", "high")),
            )
            for row in rows
        ]
        title = data.peer_name(peer) + f" ({place})" * bool(place)
        top = min(max(row.high.max() for row in traces), 2.5 * truth.max())
        svg = figures.lines(
            f"demand-{peer}",
            f"Line chart: demand against price, estimated and true, {title}.",
            [*traces, _line(theme.TRUTH, price, truth)],
            Quantity("price (usual price = 1)", "price"),
            Quantity("demand (usual units = 1)", "units"),
            start=None,
            limits=(0.0, 1.05 * top),
            size=SMALL,
        )
        made.append(Figure(svg, title))
    title = "Demand estimated and true"
    return Section("demand", title, {"figures": made}, "Demand") if made else None


def _compared(data: RunData) -> list[str]:
    """The arms shown store by store: those with a memory, where there are any."""
    with_memory = [arm for arm in ("network", "memory") if arm in data.arms]
    return with_memory or data.arms[-2:]


def _score_trace(data: RunData, arm: str) -> Trace:
    """Mean over peers and seeds, the middle half of all peers of all seeds."""
    values = data.by_peer(arm)
    mean = np.array([middle_half(seed.T)[0] for seed in values])
    peers = np.concatenate(values.swapaxes(1, 2))
    _, low, high = middle_half(peers)
    return _trace(data, data.look(arm), mean)._replace(low=low, high=high)


def _mean_over_peers(data: RunData, field: str) -> np.ndarray:
    """[S, E] mean over peers of a field of the main arm's evaluations."""
    of_seeds = [data.curves[data.main_arm, seed] for seed in data.seeds]
    return np.array([curves.over_peers(one, getattr(one, field)) for one in of_seeds])


def _trace(data: RunData, look: theme.Look, values: np.ndarray) -> Trace:
    """Mean of curves [S, E] without a band; single seeds where there are several."""
    single = values if len(values) > 1 else None
    return _line(look, data.steps, values.mean(axis=0))._replace(single=single)


def _reference(data: RunData, look: theme.Look, values: np.ndarray) -> Trace:
    return _line(look, data.steps, values.mean(axis=0))


def _line(look: theme.Look, x: np.ndarray, values: np.ndarray) -> Trace:
    return Trace(look.label, look, x, values, values, values)


def _complete(row: Row, *fields: str) -> bool:
    """Whether each of ``fields`` is a list of finite numbers, all of one length."""
    listed = [row[f] for f in fields if isinstance(row.get(f), list) and row[f]]
    known = all(labels.finite(value) is not None for one in listed for value in one)
    return known and len(listed) == len(fields) and len(set(map(len, listed))) == 1
