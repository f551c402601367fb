"""Results of the benchmark: rows for a file, and the table on the console."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.machine_limits import Limit
from benchmarks.measure import Session, TimedCase
from benchmarks.update_cost import compiler_flop, update_cost

Row = dict[str, Any]
OTHERS_MAX = 0.05  # share of processor time beyond which figures are unreliable

HEADER = (
    f"{'size':<9}{'P':>5} {'layout':<7}{'dev':>4}{'updates/s':>11}"
    f"  {'[min, max]':<18}{'GEMM':>6}{'copy':>6}{'growth':>8}"
    f"{'compile':>9}{'memory':>10}{'MFLOP':>8}{'XLA':>7}{'MB':>7}"
)
LEGEND = (
    "updates/s: gradient updates of all peers, median of the turns. GEMM, copy: share"
    " of the machine's\nbest float32 matrix product and of its copy bandwidth in the"
    " same turn. growth: updates/s over those of\nthe fewest peers. memory: arguments,"
    " temporaries and results of the compiled chunk. MFLOP, XLA, MB:\nwork of one"
    " update, counted and by the compiler, and traffic of its state."
    " *: what layout=auto picks."
)


def session_rows(session: Session) -> list[Row]:
    """A row for each loop of a session, without ``growth``."""
    return [_row(timed, session.limits) for timed in session.timed]


def _row(timed: TimedCase, limits: Sequence[Limit]) -> Row:
    config, placement = timed.case.config, timed.placement
    cost, rates = update_cost(config), timed.timing.rates
    pairs = list(zip(rates, limits, strict=True))
    return {
        "size": timed.case.size,
        "peers": config.population.peers,
        "layout": placement.layout,
        "auto": timed.case.auto,
        "devices": placement.devices,
        "devices_asked": config.devices,
        "updates_per_step": config.sac.updates_per_step,
        "exchange_every": config.exchange.interval,
        "replay": config.sac.replay_capacity,
        "updates_per_s": summary(rates, 2),
        "share_of_gemm": summary([r * cost.flop / x.gemm for r, x in pairs], 5),
        "share_of_copy": summary([r * cost.bytes / x.copy for r, x in pairs], 5),
        "turn_s": [round(spent, 5) for spent in timed.timing.seconds],
        "updates_per_turn": timed.timing.updates,
        "compile_s": round(timed.compile_s, 2),
        "program_bytes": timed.memory,
        "flop_per_update": {
            "counted": cost.flop,
            "compiler": compiler_flop(config),
        },
        "bytes_per_update": cost.bytes,
    }


def summary(values: Sequence[float], digits: int) -> dict[str, Any]:
    """Median, range and all turns."""
    turns = [round(value, digits) for value in values]
    middle = round(statistics.median(values), digits)
    return {"median": middle, "min": min(turns), "max": max(turns), "turns": turns}


def limits_row(session: Session) -> Row:
    """Limits of the machine over the turns of one session."""
    names = session.limits[0].by_candidate
    return {
        "gemm_flop_per_s": summary([limit.gemm for limit in session.limits], 0),
        "copy_bytes_per_s": summary([limit.copy for limit in session.limits], 0),
        "others": round(session.others, 3),
        "counted": list(session.limits[0].counted),
        "by_candidate": {
            name: summary([limit.by_candidate[name] for limit in session.limits], 0)
            for name in names
        },
    }


def limits_line(row: Row) -> str:
    """The limits of one session as a line of text."""
    rates = row["by_candidate"]
    name = max(row["counted"], key=lambda candidate: rates[candidate]["median"])
    gemm, copy = row["gemm_flop_per_s"], row["copy_bytes_per_s"]
    line = (
        f"limit: {gemm['median'] / 1e9:.0f} GFLOP/s"
        f" [{gemm['min'] / 1e9:.0f}, {gemm['max'] / 1e9:.0f}] (fastest: {name}),"
        f" {copy['median'] / 1e9:.1f} GB/s copied"
    )
    if row["others"] > OTHERS_MAX:
        line += f"; {row['others']:.0%} of the cores went to other programs: unreliable"
    return line


def add_growth(rows: Sequence[Row]) -> None:
    """Gives each row its updates/s over those of the fewest peers of its size.

    The base has the row's own layout; where that was not timed with so few peers, the
    fastest layout that was.
    """
    for row in rows:
        alike = [
            other
            for other in rows
            if all(other[name] == row[name] for name in ("size", "updates_per_step"))
        ]
        fewest = min(other["peers"] for other in alike)
        base = max(
            (other for other in alike if other["peers"] == fewest),
            key=lambda other: (line_of(other) == line_of(row), _rate(other)),
        )
        row["growth"] = round(_rate(row) / _rate(base), 3)


def _rate(row: Row) -> float:
    return row["updates_per_s"]["median"]


def line_of(row: Row) -> tuple[Any, ...]:
    """What the rows of one line of the figure have in common."""
    return tuple(
        row[name] for name in ("size", "layout", "devices_asked", "updates_per_step")
    )


def table(rows: Sequence[Row]) -> str:
    """Rows as lines under ``HEADER``."""
    return "\n".join([HEADER, *map(_table_line, rows)])


def _table_line(row: Row) -> str:
    rate, flop = row["updates_per_s"], row["flop_per_update"]
    layout = row["layout"] + ("*" if row["auto"] else "")
    interval = f"[{rate['min']:.0f}, {rate['max']:.0f}]"
    return (
        f"{row['size']:<9}{row['peers']:>5} {layout:<7}{row['devices']:>4}"
        f"{rate['median']:>11.0f}  {interval:<18}"
        f"{row['share_of_gemm']['median']:>6.1%}{row['share_of_copy']['median']:>6.1%}"
        f"{row['growth']:>7.2f}x{row['compile_s']:>7.1f} s"
        f"{row['program_bytes']['total'] / 1e6:>7.1f} MB"
        f"{flop['counted'] / 1e6:>8.1f}{flop['compiler'] / 1e6:>7.1f}"
        f"{row['bytes_per_update'] / 1e6:>7.2f}"
    )
