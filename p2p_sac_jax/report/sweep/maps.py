"""Figures over two factors at once."""

from __future__ import annotations

import itertools

import numpy as np

from p2p_sac_jax.report.elements import figure, text
from p2p_sac_jax.report.sweep import rows, words
from p2p_sac_jax.report.sweep.data import Omitted, SweepData

_MOST_MAPS = 3
_BREAK = "\n"  # between the lines of a cell


def maps(data: SweepData) -> str | Omitted:
    """Cold start and final score of the main arm over each pair of factors."""
    swept = [name for name in data.factors if name in data.headline().values]
    pairs = list(itertools.combinations(swept, 2))[:_MOST_MAPS]
    if not pairs:
        why = f"fewer than two factors vary in the arm {words.arm(data.main)}"
        return Omitted("map of two factors", why)
    measures = dict.fromkeys((data.early, data.final))
    return "".join(_map(data, pair, name) for pair in pairs for name in measures)


def _map(data: SweepData, pair: tuple[str, str], measure: str) -> str:
    """The factor of more values gives the rows, so that a phone can show it."""
    fields = sorted(pair, key=lambda name: -len(data.factors[name]))
    middle, cells = _cells(data, fields, measure)
    down, across = ([words.value(v) for v in data.factors[n]] for n in fields)
    title = f"{words.measure(measure, data.unit)}, {words.arm(data.main)}"
    names = words.field(fields[0]), words.field(fields[1])
    told = "; ".join(
        f"{label}: {', '.join(cell.partition(_BREAK)[0] for cell in line)}"
        for label, line in zip(down, cells, strict=True)
    )
    svg = rows.heat(
        words.identifier("map", *fields, measure),
        f"Heat map: {title}, {names[0]} by {names[1]} ({', '.join(across)}). {told}.",
        names,
        down,
        across,
        middle,
        cells,
    )
    return figure(svg, _caption(data, fields), words.sentence(title))


def _cells(
    data: SweepData, fields: list[str], measure: str
) -> tuple[np.ndarray, list[list[str]]]:
    """Figures [R, C] and the words in each cell; other factors as in the headline."""
    down, across = (data.factors[name] for name in fields)
    middle = np.full((len(down), len(across)), np.nan)
    cells = [["–"] * len(across) for _ in down]
    fixed = _fixed(data, fields)
    for seen in data.of_arm(data.main):
        row = data.row(seen, measure)
        if row and row["seeds"] and fixed.items() <= seen.values.items():
            values = [seen.values[name] for name in fields]
            place = down.index(values[0]), across.index(values[1])
            middle[place] = row["iqm"]
            told = [words.number(measure, row["iqm"])]
            if row["pairs"]:
                told.append(words.signed_difference(row))
            cells[place[0]][place[1]] = _BREAK.join(told)
    return middle, cells


def _fixed(data: SweepData, fields: list[str]) -> dict[str, object]:
    values = data.headline().values
    return {name: value for name, value in values.items() if name not in fields}


def _caption(data: SweepData, fields: list[str]) -> str:
    held = words.settings(_fixed(data, fields))
    below = (
        f", and below it the difference to {text(words.arm(data.control))}, in"
        " percentage points where it is a share"
        if data.control
        else ""
    )
    end = f". Held still: {text(held)}." if held else "."
    return f"<b>How measured.</b> Interquartile mean over seeds{below}{end}"
