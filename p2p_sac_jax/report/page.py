"""A page: sections written by templates, one style sheet, one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from p2p_sac_jax.report import labels, theme
from p2p_sac_jax.report.svg import optional

# Nothing may be fetched, whatever a later change might put on the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Figure(NamedTuple):
    """A picture, its title, and what its caption needs to know."""

    svg: str  # as ``svg.draw`` paints it
    title: str = ""
    facts: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    outside: str = ""  # what the frame does not show, in words


class Table(NamedTuple):
    """A table whose first column names the rows."""

    label: str  # for a screen reader
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    kind: str = "numbers"  # or "words"


class Section(NamedTuple):
    """One section of a page, written by the macro of the same name."""

    name: str
    title: str
    content: dict[str, Any]
    link: str = ""  # in the navigation; the title if empty


class Page(NamedTuple):
    """Everything a page shows."""

    title: str
    facts: Sequence[str]  # under the title, beside population and arms
    badges: Sequence[str]  # what a reader must not miss, beside the seeds
    sections: Sequence[Section | None]  # None has nothing to show
    data: Any  # ``SweepData``, which the text of every section may refer to
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped.

    Raises:
      ConfigError: jinja2 is not installed.
    """
    jinja2 = optional("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("p2p_sac_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    safe = optional("markupsafe").Markup
    environment.filters |= {
        "plain": labels.plain,
        "arm": labels.arm,
        "picture": lambda svg: safe(theme.themed(svg)),
    }
    return environment.get_template("page.j2").render(
        page=page,
        data=page.data,
        policy=_POLICY,
        style=safe(theme.SHEET),
    )
