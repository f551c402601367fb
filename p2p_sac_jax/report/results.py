"""The headline of the report: a sentence, four numbers, a table, what they mean."""

from __future__ import annotations

from p2p_sac_jax.report import data as d
from p2p_sac_jax.report.elements import (
    cell,
    definitions,
    paragraph,
    percent,
    points,
    section,
    table,
    text,
)
from p2p_sac_jax.report.style import look


def results(data: d.RunData) -> str:
    """Headline: a sentence, four numbers, the closing table, what it means."""
    return section(
        "results",
        "Results",
        paragraph(_lede(data), "lede"),
        _tiles(data),
        _closing_table(data),
        _meaning(data),
    )


def _lede(data: d.RunData) -> str:
    main = data.main_arm
    name = f"<b>{text(look(main, data.arms).label)}</b>"
    when = f"After {data.last_step} {data.unit}s"
    if not data.has_oracle:
        score = cell(d.last(data, main, "score"))
        return f"{when} the peers of the arm {name} score {score} per step, on average."
    fraction = d.last(data, main, "oracle_fraction")
    words = (
        f"{when} the prices learned by the arm {name} earn <b>{percent(fraction)}</b>"
        " of the best attainable profit."
    )
    baseline = d.last(data, main, "baseline_fraction")
    if fraction is not None and baseline is not None:
        gain = fraction - baseline
        words += (
            f" Leaving prices as they always were earns {percent(baseline)}: learning"
            f" {'adds' if gain >= 0 else 'costs'} {points(gain)}."
        )
    alone = d.last(data, "memory", "oracle_fraction") if main == "network" else None
    if fraction is not None and alone is not None:
        gain = fraction - alone
        words += (
            f" The same peers without their neighbours reach {percent(alone)}: the"
            f" network {'adds' if gain >= 0 else 'costs'} {points(gain)}."
        )
    earned = d.last(data, main, "earned_fraction")
    usual = d.last(data, main, "baseline_earned_fraction")
    if earned is not None and usual is not None:
        words += (
            f" Over all weeks of learning it earned {percent(earned)},"
            f" {points(earned - usual)} {'more' if earned >= usual else 'less'} than"
            " prices left alone."
        )
    return words


def _tiles(data: d.RunData) -> str:
    if not data.has_oracle:
        fields = [("score", "mean evaluation score per step", "")]
    else:
        fields = [
            (
                "oracle_fraction",
                "of the best profit, learned prices",
                "baseline_fraction",
            ),
            ("oracle_fraction_worst", "of the best profit, worst peer", ""),
            ("earned_fraction", "earned while learning", "baseline_earned_fraction"),
            ("gap_closed", "of the gap to the best price closed", ""),
        ]
    tiles = []
    for field, words, reference in fields:
        shown = cell if field == "score" else percent
        others = [
            f"{text(look(arm, data.arms).label)} {shown(d.last(data, arm, field))}"
            for arm in reversed(data.arms)
            if arm != data.main_arm
        ]
        if reference:
            others.append(
                f"historical {percent(d.last(data, data.main_arm, reference))}"
            )
        value = shown(d.last(data, data.main_arm, field))
        tiles.append(
            f'<div class="tile"><b>{value}</b><span>{words}</span>'
            f"<small>{'<br>'.join(others)}</small></div>"
        )
    head = text(look(data.main_arm, data.arms).label)
    inner = "".join(tiles)
    return f'<div class="tiles" role="group" aria-label="arm {head}">{inner}</div>'


def _closing_table(data: d.RunData) -> str:
    given = data.summary.get("table")
    if given and given.get("rows"):
        columns = [column or "arm" for column in given["columns"]]
        return table(columns, given["rows"], "Closing table of the run")
    fields = [
        ("score", "score per step"),
        ("oracle_fraction", "final"),
        ("oracle_fraction_worst", "worst peer"),
        ("gap_closed", "gap closed"),
        ("earned_fraction", "earned"),
    ]
    fields = [(field, words) for field, words in fields if data.has(field)]
    rows = []
    for arm in data.arms:
        values = [d.last(data, arm, field) for field, _ in fields]
        shown = [percent(v) if data.has_oracle else v for v in values[1:]]
        rows.append([look(arm, data.arms).label, values[0], *shown])
    return table(["arm", *(words for _, words in fields)], rows, "Results by arm")


def _meaning(data: d.RunData) -> str:
    if not data.has_oracle:
        return definitions(
            [("score", "mean reward per step of the learned policy in evaluation")]
        )
    return (
        "<details open><summary>What the numbers mean</summary>"
        + definitions(
            [
                (
                    "final",
                    "Last evaluation: profit of the learned price divided by that of"
                    " the oracle, the best price of a seller who knows its demand."
                    " Noise-free.",
                ),
                (
                    "historical price",
                    "Never changing the price. It already earns most of what can be"
                    " earned, so a share of the oracle says little beside it.",
                ),
                (
                    "gap closed",
                    "(learned − historical) / (best − historical). 0 % is no better"
                    " than leaving prices alone, 100 % is the best; can be negative.",
                ),
                (
                    "earned",
                    "The same share summed over all weeks of training, exploration and"
                    " early mistakes included: what the learning itself has cost."
                    " “first 50” counts the first 50 weeks alone.",
                ),
                ("worst peer", "The lowest share of the oracle among all peers."),
            ]
        )
        + "</details>"
    )
