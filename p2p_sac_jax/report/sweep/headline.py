"""The first thing on the page: what the sweep says, in words and four numbers."""

from __future__ import annotations

from p2p_sac_jax.ablation.table import Row
from p2p_sac_jax.report.elements import paragraph, text
from p2p_sac_jax.report.sweep import words
from p2p_sac_jax.report.sweep.data import ARRIVAL, PEERS, Seen, SweepData

_ENOUGH = 10  # seeds behind a claim
_NOTHING = 1e-4  # a difference of shares that is none, whatever its interval


def headline(data: SweepData) -> str:
    """A paragraph, what else the points say, and tiles."""
    chosen = data.headline()
    first = _compared(data, chosen, data.early, first=True)
    rest = [
        _compared(data, chosen, data.final, first=False) * (data.final != data.early),
        _price(data, chosen),
        _elsewhere(data),
        _choice(data),
    ]
    return (
        paragraph(first, "lede")
        + paragraph(" ".join(filter(None, rest)))
        + _tiles(data, chosen)
    )


def _compared(data: SweepData, chosen: Seen, measure: str, first: bool) -> str:
    """One figure of the headline's point and of its control."""
    row, other = data.row(chosen, measure), data.control_of(chosen)
    if row is None or not row["seeds"]:
        return ""
    name = f"<b>{text(words.arm(chosen.arm))}</b>"
    opening = f"With {_place(chosen)}, the arm {name}" if first else "It"
    figure = f"<b>{words.estimate(row)}</b>"
    what = _what(data, measure)
    sentence = f"{opening} {what.format(figure)}"
    if other is None or not row["pairs"]:
        return f"{sentence}. There is no arm to compare it with."
    against = words.estimate(data.row(other, measure))
    alone = text(words.arm(other.arm))
    return (
        f"{sentence}, against {against} for <b>{alone}</b>, which hears nobody:"
        f" difference {words.difference(row)} over {_seeds(row['pairs'])}."
        f" {claim(row)}"
    )


def claim(row: Row) -> str:
    """What may be said of a difference, and no more."""
    pairs, low, high = row["pairs"], row["difference_low"], row["difference_high"]
    if pairs < 2 or low is None:
        return "One seed shows what happened once: indicative, no claim."
    if words.is_share(row["measure"]) and abs(row["difference"]) < _NOTHING:
        return "That is less than a hundredth of a point: no difference is claimed."
    if low <= 0 <= high:
        return "The interval includes 0: no difference is claimed."
    sign = "gain" if low > 0 else "loss"
    if pairs < _ENOUGH:
        return (
            f"The interval excludes 0, a {sign}; from fewer than {_ENOUGH} seeds"
            " intervals are too narrow, so this is a first look."
        )
    return f"The interval excludes 0: a {sign}."


def _place(chosen: Seen) -> str:
    return text(words.told({PEERS: chosen.peers, **chosen.values}))


def _what(data: SweepData, measure: str) -> str:
    """The predicate of a figure, with a place for it."""
    if not data.has_oracle:
        return f"has a {words.measure(measure, data.unit)} of {{}}"
    best = "of the best attainable profit"
    if measure == "earned_50":
        return f"earned {{}} {best} in the first 50 {data.unit}s of learning"
    if measure == "earned":
        return f"earned {{}} {best} while learning"
    return f"ends at a policy that earns {{}} {best}"


def _price(data: SweepData, chosen: Seen) -> str:
    """What never changing the price earns in the same market."""
    if not data.has_oracle:
        return ""
    name, early = "Leaving prices alone", data.references(chosen, data.early)[1:]
    late = data.references(chosen, data.final)[1:]
    if not early or not late or data.unit != "week":
        return ""
    return (
        f"{name} earns {words.number('earned', early[0][1])} in the same"
        f" {data.unit}s and {words.number('final', late[0][1])} at the end."
    )


def _elsewhere(data: SweepData) -> str:
    """How the difference comes out at all other points of the arm."""
    rows = [data.row(seen, data.early) for seen in data.of_arm(data.main)]
    known = [row for row in rows if row and row["difference_low"] is not None]
    if len(known) < 2:
        return ""
    above = sum(row["difference_low"] > 0 for row in known)
    below = sum(row["difference_high"] < 0 for row in known)
    name = words.measure(data.early, data.unit)
    return (
        f"Over the {len(known)} points of the arm, the interval of the difference in"
        f" what was {name} lies above 0 in {above}, below 0 in {below} and includes it"
        f" in {len(known) - above - below}; nothing is corrected for looking at many."
    )


def _choice(data: SweepData) -> str:
    if len(data.of_arm(data.main)) < 2:
        return ""
    return (
        "The point above is the one of most peers, with every other factor as in the"
        " base configuration where that was swept; it is not chosen by its result."
    )


def _tiles(data: SweepData, chosen: Seen) -> str:
    wanted = (data.early, data.final, "worst", ARRIVAL)
    tiles = []
    for measure in dict.fromkeys(wanted):
        row, other = data.row(chosen, measure), data.control_of(chosen)
        if row is None or not row["seeds"]:
            continue
        middle = row["median"] if measure == ARRIVAL else row["iqm"]
        small = [words.estimate(row).removeprefix(words.number(measure, middle))]
        if other is not None:
            control = words.estimate(data.row(other, measure))
            small.append(f"{words.arm(other.arm)} {control}")
            small.append(_difference(measure, row))
        lines = "<br>".join(text(line.strip()) for line in small if line.strip())
        tiles.append(
            f'<div class="tile"><b>{words.number(measure, middle)}</b>'
            f"<span>{text(words.measure(measure, data.unit))}</span>"
            f"<small>{lines}</small></div>"
        )
    label = text(chosen.label)
    return (
        f'<div class="tiles" role="group" aria-label="{label}">{"".join(tiles)}</div>'
    )


def _difference(measure: str, row: Row) -> str:
    if measure == ARRIVAL:
        return f"which is {words.difference(row)} as many"
    return f"difference {words.difference(row)}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"
