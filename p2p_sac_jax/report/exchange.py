"""The network: who hears whom, how it is weighed, what leaves a peer."""

from __future__ import annotations

from p2p_sac_jax.report import data as d
from p2p_sac_jax.report import figures
from p2p_sac_jax.report.elements import (
    cell,
    figure,
    paragraph,
    section,
    size,
    table,
    text,
)

_WEIGHING = (
    (
        "coverage",
        "Coverage",
        "share of contexts",
        "Share of the public contexts on which a peer hears anybody.",
    ),
    (
        "neighbours",
        "Voices heard",
        "effective number",
        "Neighbours heard, counted by weight: as many equal voices would weigh so.",
    ),
    (
        "lowest_trust",
        "Least trusted voice",
        "relative to the most trusted",
        "1 while all are trusted alike; near 0 once somebody has been found out.",
    ),
)


def network(data: d.RunData) -> str:
    """Who hears whom, what the channels do, how much was sent."""
    adjacency = data.run.get("adjacency")
    if not adjacency:
        return ""
    sentence = figures.describe_network(adjacency)
    svg = figures.network(adjacency, "network", f"Network diagram: {sentence}")
    picture = figure(
        svg,
        "<b>What to see.</b> A line joins two peers that hear each other; an arrow"
        f" points from sender to receiver. {text(sentence)} <b>How drawn.</b> The"
        " adjacency of the arm “network”, peers on a circle by number.",
        "Who hears whom",
    )
    channels = data.summary.get("channels") or data.run.get("channels") or {}
    rows = list(channels.items())
    interval = data.run.get("config", {}).get("exchange", {}).get("interval")
    sent = d.number(data.summary.get("bytes_shared_per_peer"))
    words = []
    if interval is not None:
        words.append(f"Peers exchange every {cell(interval)} {data.unit}s.")
    if sent is not None:
        words.append(
            f"Each peer sent <b>{size(sent)}</b> over the whole run: the payload that"
            " left it, times its receivers."
        )
    words.append(_shape(data))
    side = (
        '<div class="card"><h3>Channels</h3>'
        + (table(["channel", "status"], rows, "Channels", "words") if rows else "")
        + paragraph(" ".join(filter(None, words)))
        + "</div>"
    )
    pair = f'<div class="pair">{picture}{side}</div>'
    return section("network", "The network", pair, _weighing(data), _privacy(data))


def _shape(data: d.RunData) -> str:
    """Degrees and spectral gap, in one sentence."""
    shape = data.run.get("network") or {}
    gap, heard = (
        d.number(shape.get("spectral_gap")),
        d.number(shape.get("heard_per_round")),
    )
    if gap is None or heard is None:
        return ""
    return (
        f"A peer hears {cell(heard)} others a round; the spectral gap of its"
        f" {text(shape.get('mixing'))} mixing matrix is {cell(gap)}"
        " (1: one round settles any disagreement, 0: never)."
    )


def _weighing(data: d.RunData) -> str:
    """How the networked peers weighed what they heard, over time."""
    panels = []
    for field, title, y_label, words in _WEIGHING:
        curves = d.peer_curves(data, "network", field)
        if not curves.values.size:
            continue
        by_arm = {"network": d.Curves(curves.steps, d.mean(curves.values)[None])}
        svg = figures.curves(
            data,
            f"weighing-{field}",
            f"Line chart: {title.lower()}, mean over networked peers.",
            y_label,
            by_arm,
            {"network": d.middle_half(curves)},
            size=figures.SMALL,
        )
        panels.append(figure(svg, words, title))
    return f'<div class="three">{"".join(panels)}</div>' if panels else ""


def _privacy(data: d.RunData) -> str:
    """What leaves a peer in this mode, and which of it carries a guarantee."""
    privacy = data.run.get("privacy") or {}
    channels = privacy.get("channels") or {}
    if not channels:
        return ""
    words = [f"Mode <b>{text(privacy.get('mode'))}</b>."]
    spent = d.number(data.summary.get("privacy_epsilon"))
    if spent is not None:
        words.append(
            f"The peer that said most has spent epsilon <b>{cell(spent)}</b>"
            f" ({text(privacy.get('adjacency'))})."
        )
    allowed = privacy.get("messages_allowed")
    if allowed is not None:
        words.append(
            f"The budget of epsilon {cell(privacy.get('epsilon_budget'))} pays for"
            f" {cell(allowed)} messages a peer; then it falls silent."
        )
    rows = list(channels.items())
    return (
        '<div class="card"><h3>What leaves a peer</h3>'
        + paragraph(" ".join(words))
        + table(["what", "guarantee"], rows, "What leaves a peer", "words")
        + "</div>"
    )
