"""The claims of the project as numbers that can be missed, from finished sweeps.

Every target is a figure with a 95 % interval over populations, and a bar. It is met
where the whole interval lies on the right side of the bar, missed where the whole of
it lies on the wrong one, and open in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.ablation.measures import Values
from p2p_sac_jax.ablation.results import Sweep
from p2p_sac_jax.ablation.series import HISTORICAL, measure_run
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.statistics import Estimate

STEPS = "steps_to_0.95"


class Target(NamedTuple):
    """One claim, and what was measured."""

    claim: str
    where: str
    seeds: int
    figure: Estimate
    bar: float
    at_least: bool = True  # or at most

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``open`` where the interval holds the bar."""
        sign = 1.0 if self.at_least else -1.0
        ends = sorted((sign * self.figure.low, sign * self.figure.high))
        if any(map(math.isnan, ends)):
            return "open"
        bar = sign * self.bar
        return "met" if ends[0] >= bar else "missed" if ends[1] < bar else "open"


class Claim(NamedTuple):
    """What a figure of an arm must reach."""

    text: str
    figure: str
    bar: float
    less: str = ""  # arm whose figure is taken off, seed by seed
    times: str = ""  # arm whose median is divided by that of the figure
    arm: str = "network"


NO_HARM = Claim("final score, less own memory's", "final", -0.01, less="memory")
HEADLINE = (
    *(
        Claim(f"steps to a sustained .95: times fewer than {arm}", STEPS, bar, "", arm)
        for arm, bar in (("plain", 6.0), ("memory", 1.5), ("memory wide", 1.5))
    ),
    Claim(
        "earned in 200 weeks, less the historical price's",
        *("earned_200", 0.01, HISTORICAL),
    ),
    Claim("worst peer at week 25", "worst_25", 0.90),
    Claim("worst peer at week 200", "worst_200", 0.94),
    NO_HARM,
    *(
        Claim(
            f"score at week {weeks}, less the bandit's on the network's prior",
            *(f"score_{weeks}", -0.005, "bandit network"),
        )
        for weeks in (50, 200)
    ),
)
REFERENCE_PRICE = tuple(
    Claim(
        f"{figure}, less the myopic bandit's on the network's prior",
        *(figure, 0.0, "bandit network"),
    )
    for figure in ("final", "earned")
)


def _newcomers(above_historical: float, above_memory: float) -> tuple[Claim, ...]:
    text, figure = "newcomers' first 25 weeks, less ", "newcomers_earned"
    return (
        Claim(f"{text}the historical price's", figure, above_historical, HISTORICAL),
        Claim(f"{text}those of memory", figure, above_memory, "memory"),
        Claim(f"{text}those of memory wide", figure, above_memory, "memory wide"),
    )


class Figures(NamedTuple):
    """Figures of a sweep by (arm, value of the swept field), one dict a seed.

    ``HISTORICAL`` is an arm as well, in the market of the arm ``network``.
    """

    arms: dict[tuple[str, Any], list[Values]]
    end: float  # steps of a run

    def values(self, arm: str, at: Any, name: str) -> np.ndarray:
        """[S] one figure of an arm at every finished seed, NaN elsewhere."""
        rows = self.arms.get((arm, at)) or self.arms.get((arm, None)) or []
        return np.array([row.get(name, np.nan) for row in rows])


def read_figures(sweep: Sweep) -> Figures:
    """Figures of every cell of a sweep over at most one field."""
    field = next(iter(sweep.factors), "")
    arms: dict[tuple[str, Any], list[Values]] = {}
    for point in sweep.points:
        at = point.values.get(field)
        found = [measure_run(run) for run in point.runs]
        arms[point.arm, at] = [one.arm for one in found]
        if point.arm == "network":
            arms[HISTORICAL, at] = [one.historical for one in found]
    return Figures(arms, float(sweep.meta["config"]["steps"]))


def headline(found: Figures) -> Iterator[Target]:
    """Targets 1, 2, 4 and the second half of 7."""
    return _judge(found, {"chain": HEADLINE, "brands": HEADLINE})


def newcomers(found: Figures) -> Iterator[Target]:
    """Target 3."""
    claims = {"chain": _newcomers(0.02, 0.03), "brands": _newcomers(0.01, 0.04)}
    return _judge(found, claims)


def no_harm(found: Figures, arm: str, where: str) -> Iterator[Target]:
    """Target 5 over the values of a swept field."""
    values = sorted({at for _, at in found.arms if at is not None})
    claims = {at: (NO_HARM._replace(arm=arm),) for at in values}
    return _judge(found, claims, f"{where} {{}}")


def reference_price(found: Figures) -> Iterator[Target]:
    """The first half of target 7: where prices have memory."""
    return _judge(found, {None: REFERENCE_PRICE}, "reference effect")


def _judge(
    found: Figures, claims: Mapping[Any, Sequence[Claim]], where: str = "{}"
) -> Iterator[Target]:
    """Every claim at its value of the swept field, from seeds that both arms have."""
    for at, claim in ((key, claim) for key in claims for claim in claims[key]):
        ours = found.values(claim.arm, at, claim.figure)
        theirs = ours
        if other := claim.less or claim.times:
            theirs = found.values(other, at, claim.figure)
        size = min(len(ours), len(theirs))
        both = ~(np.isnan(ours[:size]) | np.isnan(theirs[:size]))
        a, b = ours[:size][both], theirs[:size][both]
        if claim.times:
            figure = statistics.ratio_of_medians(a, b, found.end)
        elif not len(a):
            figure = Estimate(math.nan, math.nan, math.nan)
        else:
            figure = statistics.estimate(a - b if claim.less else a)
        yield Target(claim.text, where.format(at), len(a), figure, claim.bar)


def held_out(rows: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    """Target 6: what a held-out market costs with the network, over that without.

    Args:
      rows: of ``transfer``, with the population; numbers may be text.
    """
    for where in dict.fromkeys(row["population"] for row in rows):
        networked, alone = (
            [
                float(row[f"{arm}_own"]) - float(row[f"{arm}_held_out"])
                for row in rows
                if row["population"] == where
            ]
            for arm in ("network", "memory")
        )
        figure = statistics.ratio_of_means(networked, alone)
        claim = (
            "gap of held-out to trained markets, over that of own memory transferred"
        )
        yield Target(claim, where, len(alone), figure, 0.7, at_least=False)
