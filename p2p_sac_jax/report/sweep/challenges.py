"""Privacy against utility, and liars: what is lost when either is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from p2p_sac_jax.report.sweep.data import Omitted, Seen, SweepData
from p2p_sac_jax.report.sweep.effects import forest
from p2p_sac_jax.report.sweep.factors import ATTACK, PRIVACY, against


def privacy(data: SweepData) -> str | Omitted:
    """Figures against settings of privacy, and arms that set one."""
    return _varied(data, "privacy", "privacy against utility", PRIVACY)


def attacks(data: SweepData) -> str | Omitted:
    """Figures against settings of attacks, and arms that set one."""
    if not any(seen.cells[0].curves.byzantine.any() for seen in data.seen):
        return Omitted("attack curves", "no population has a liar")
    return _varied(data, "attack", "attack curves", ATTACK, ("exchange.aggregator",))


def _varied(
    data: SweepData,
    stem: str,
    what: str,
    fields: Sequence[str],
    answers: Sequence[str] = (),
) -> str | Omitted:
    """Figures against ``fields``, and of arms that set one or one of ``answers``."""
    swept = [name for name in data.factors if name in fields]
    html = "".join(against(data, name) for name in swept)
    told = {*fields, *answers}
    arms = [arm for arm, said in data.sweep.arms.items() if said.keys() & told]
    if arms:
        shown = {*arms, data.main} - {data.control}
        points = [seen for seen in _like_headline(data) if seen.arm in shown]
        measures = dict.fromkeys((data.early, data.final))
        html += "".join(forest(data, stem, name, points) for name in measures)
    if not html:
        why = f"none of {', '.join(fields)} was swept or set by an arm"
        return Omitted(what, why)
    return html


def _like_headline(data: SweepData) -> list[Seen]:
    values = data.headline().settings
    return [
        seen
        for seen in data.seen
        if all(values.get(name, value) == value for name, value in seen.values.items())
    ]
