"""Small pieces of HTML and the way numbers are written."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from p2p_sac_jax.report.data import number
from p2p_sac_jax.report.theme import themed


def text(value: Any) -> str:
    """``value`` as escaped text."""
    return html.escape(str(value))


def percent(value: float | None) -> str:
    """A share as per cent, a dash where it is missing."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%".replace("-", "−")


def points(value: float) -> str:
    """A difference of shares in percentage points, without its sign."""
    return f"{100 * abs(value):.1f} points"


def cell(value: Any, decimals: int | None = None) -> str:
    """Content of a table cell: numbers to four figures, words as they are.

    Args:
      value: what is shown, a dash where it is missing.
      decimals: decimals of a number below 100, to make a column line up.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return {None: "–", True: "yes", False: "no"}.get(value) or text(value)
    found = number(value)
    if found is None:
        return "–" if isinstance(value, float) else text(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    line_up = decimals is not None and abs(found) < 100
    return (f"{found:.{decimals}f}" if line_up else f"{found:.4g}").replace("-", "−")


def size(count: float) -> str:
    """A number of bytes in readable units."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} GB"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], label: str, kind: str = ""
) -> str:
    """A table whose first column names the rows; it scrolls on a narrow screen."""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    decimals = None if kind == "words" else 3
    body = "".join(
        f'<tr><th scope="row">{cell(row[0])}</th>'
        + "".join(f"<td>{cell(value, decimals)}</td>" for value in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure(svg: str, caption: str, title: str = "") -> str:
    """A picture, its title and the sentences under it (``caption`` is HTML).

    ``svg`` is as ``style.draw`` paints it; here it learns to follow the page's theme.
    """
    heading = f"<h3>{text(title)}</h3>" if title else ""
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{heading}{themed(svg)}{words}</figure>"


def switch(name: str, label: str, panes: Sequence[tuple[str, str]]) -> str:
    """Several panes of which one is shown, chosen by radio buttons; needs no script.

    Args:
      name: identifier, unique on the page.
      label: what is chosen, for a screen reader.
      panes: title and HTML of each; the first is shown at first.
    """
    pieces = []
    for index, (title, inner) in enumerate(panes):
        chosen = " checked" if index == 0 else ""
        pieces.append(
            f'<input type="radio" name="{name}" id="{name}-{index}"{chosen}/>'
            f'<label for="{name}-{index}">{text(title)}</label>'
            f'<div class="pane">{inner}</div>'
        )
    return (
        f'<div class="switch" role="radiogroup" aria-label="{text(label)}">'
        f"{''.join(pieces)}</div>"
    )


def section(identifier: str, title: str, *content: str) -> str:
    """One section; empty pieces are left out."""
    inner = "\n".join(piece for piece in content if piece)
    return (
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">'
        f'<h2 id="{identifier}-title">{text(title)}</h2>\n{inner}</section>'
    )


def paragraph(content: str, kind: str = "") -> str:
    """A paragraph of HTML."""
    return f'<p class="{kind}">{content}</p>' if kind else f"<p>{content}</p>"


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Terms and what they mean (plain text)."""
    inner = "".join(f"<dt>{text(a)}</dt><dd>{text(b)}</dd>" for a, b in entries)
    return f"<dl>{inner}</dl>"
