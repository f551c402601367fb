"""The claims of the project as numbers that can be missed, from finished sweeps.

Every target is a figure with a 95 % interval over populations, and a bar. It is met
where the whole interval lies on the right side of the bar, missed where the whole of
it lies on the wrong one, and open in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.transfer import Transfer, gaps
from p2p_sac_jax.ablation.measures import Values, measure
from p2p_sac_jax.ablation.results import Sweep
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.statistics import Estimate

POPULATION = "population.name"
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


class Figures(NamedTuple):
    """Figures of a sweep by (arm, value of the swept field), one dict a seed."""

    arms: dict[tuple[str, Any], list[Values]]
    historical: dict[tuple[str, Any], list[Values]]  # of the historical price
    end: float  # steps of a run

    def values(
        self, arm: str, at: Any, name: str, *, historical: bool = False
    ) -> np.ndarray:
        """[S] one figure of an arm at every finished seed, NaN elsewhere.

        With ``historical``, that of the historical price in the arm's market.
        """
        figures = self.historical if historical else self.arms
        rows = figures.get((arm, at)) or figures.get((arm, None)) or []
        return np.array([row.get(name, np.nan) for row in rows])


def read_figures(sweep: Sweep) -> Figures:
    """Figures of every cell of a sweep over at most one field."""
    field = next(iter(sweep.factors), "")
    own, historical = {}, {}
    for point in sweep.points:
        key = point.arm, point.values.get(field)
        own[key], historical[key] = [], []
        for run in point.runs:
            found = measure(run.curves) if run else None
            own[key].append(found.arm if found else {})
            historical[key].append(found.historical if found else {})
    return Figures(own, historical, float(sweep.meta["config"]["steps"]))


def headline(found: Figures) -> Iterator[Target]:
    """Targets 1, 2, 4 and the second half of 7."""
    for name in ("chain", "brands"):

        def of(arm: str, figure: str, name: str = name) -> np.ndarray:
            return found.values(arm, name, figure)

        baselines = (("plain", 6.0), ("memory", 1.5), ("memory wide", 1.5))
        for other, times in baselines:
            ours = of("network", STEPS)
            a, b = _paired(ours, of(other, STEPS))
            ratio = statistics.ratio_of_medians(a, b, found.end)
            claim = f"steps to a sustained .95: times fewer than {other}"
            yield Target(claim, name, int((~np.isnan(ours)).sum()), ratio, times)
        yield _less(
            "earned in 200 weeks, less the historical price's",
            name,
            of("network", "earned_200"),
            found.values("network", name, "earned_200", historical=True),
            0.01,
        )
        for weeks, bar in ((25, 0.90), (200, 0.94)):
            worst = of("network", f"worst_{weeks}")
            worst = worst[~np.isnan(worst)]
            figure = _estimate(statistics.estimate, worst)
            claim = f"worst peer at week {weeks}"
            yield Target(claim, name, len(worst), figure, bar)
        yield _less(
            "final score, less own memory's",
            name,
            of("network", "final"),
            of("memory", "final"),
            -0.01,
        )
        for weeks in (50, 200):
            figure = f"score_{weeks}"
            yield _less(
                f"score at week {weeks}, less the bandit's on the network's prior",
                name,
                of("network", figure),
                of("bandit network", figure),
                -0.005,
            )


def newcomers(found: Figures) -> Iterator[Target]:
    """Target 3."""
    name = "newcomers_earned"
    for where, above_historical, above_memory in (
        ("chain", 0.02, 0.03),
        ("brands", 0.01, 0.04),
    ):
        ours = found.values("network", where, name)
        historical = found.values("network", where, name, historical=True)
        claim = "newcomers' first 25 weeks, less "
        yield _less(
            f"{claim}the historical price's", where, ours, historical, above_historical
        )
        for arm in ("memory", "memory wide"):
            alone = found.values(arm, where, name)
            yield _less(f"{claim}those of {arm}", where, ours, alone, above_memory)


def no_harm(
    found: Figures, arm: str, values: list[Any], prefix: str
) -> Iterator[Target]:
    """Target 5 over the values of a swept field."""
    for value in values:
        yield _less(
            "final score, less own memory's",
            f"{prefix} {value}",
            found.values(arm, value, "final"),
            found.values("memory", value, "final"),
            -0.01,
        )


def held_out(results: Mapping[str, Transfer]) -> Iterator[Target]:
    """Target 6: what a held-out market costs with the network, over that without."""
    for where, result in results.items():
        networked, alone = gaps(result)

        figure = statistics.ratio_of_means(networked, alone)
        claim = (
            "gap of held-out to trained markets, over that of own memory transferred"
        )
        yield Target(claim, where, len(networked), figure, 0.7, at_least=False)


def read_transfers(rows: Sequence[Mapping[str, str]]) -> dict[str, Transfer]:
    """Transfers by population, from rows of text with the fields of ``Transfer``."""
    names = dict.fromkeys(row["population"] for row in rows)
    return {
        name: Transfer(
            np.array([int(r["seed"]) for r in rows if r["population"] == name]),
            *(
                np.array([float(r[f]) for r in rows if r["population"] == name])
                for f in Transfer._fields[1:]
            ),
        )
        for name in names
    }


def reference_price(found: Figures) -> Iterator[Target]:
    """The first half of target 7: where prices have memory."""
    for figure in ("final", "earned"):
        yield _less(
            f"{figure}, less the myopic bandit's on the network's prior",
            "reference effect",
            found.values("network", None, figure),
            found.values("bandit network", None, figure),
            0.0,
        )


def _less(
    claim: str, where: str, ours: np.ndarray, theirs: np.ndarray, bar: float
) -> Target:
    ours, theirs = _paired(ours, theirs)
    figure = _estimate(statistics.difference, ours, theirs)
    return Target(claim, where, len(ours), figure, bar)


def _paired(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The seeds that both have."""
    size = min(len(ours), len(theirs))
    both = ~(np.isnan(ours[:size]) | np.isnan(theirs[:size]))
    return ours[:size][both], theirs[:size][both]


def _estimate(function: Callable[..., Estimate], *samples: np.ndarray) -> Estimate:
    if not len(samples[0]):
        return Estimate(math.nan, math.nan, math.nan)
    return function(*samples)
