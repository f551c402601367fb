"""What is public of the coefficients of log demand, before anybody has data.

An environment that sells something describes each coefficient of its demand by a
``CoefficientSpec``. Priors, clipping of records, noise boxes and bounds of messages
are arrays made of these specifications; no other module knows what a coefficient
stands for, or how many there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2p_sac_jax.types import Array, Prior


class CoefficientSpec(NamedTuple):
    """One coefficient of log demand, and the regressor that it multiplies; static."""

    name: str
    prior_mean: float  # of a peer that knows nothing
    prior_std: float
    spread: float  # variance between peers, before any neighbour has data
    floor: float  # the least variance between peers that may be learned
    low: float  # public box that coefficients in noised messages are clipped to
    high: float
    # Weight of the regressor in the norm of a record: noise of one size for all sums
    # then costs all coefficients about the same.
    scale: float
    usual_square: float  # public guess of the regressor's mean square
    own_price: bool = False  # whether the regressor falls with the own price


class BasePrior(NamedTuple):
    """The specifications of F coefficients as float32 NumPy arrays; F may be 0."""

    mean: Array  # [F] of a peer that knows nothing
    covariance: Array  # [F, F] diagonal
    spread: Array  # [F] guessed variance between peers
    spread_floor: Array  # [F]
    low: Array  # [F] public box
    high: Array  # [F]
    record_scale: Array  # [F] weights of the regressors in the norm of a record
    usual_square: Array  # [F] guessed mean squares of the regressors
    own_price: Array  # [F] 1 where the regressor falls with the own price

    @property
    def prior(self) -> Prior:
        """Mean and covariance alone."""
        return Prior(self.mean, self.covariance)

    @property
    def size(self) -> int:
        """F; 0 where a memory knows no demand coefficients."""
        return self.mean.shape[-1]


def make_base_prior(coefficients: tuple[CoefficientSpec, ...]) -> BasePrior:
    """Arrays of the specifications, in their order."""

    def column(field: str) -> np.ndarray:
        return np.asarray([getattr(c, field) for c in coefficients], np.float32)

    return BasePrior(
        mean=column("prior_mean"),
        covariance=np.diag(column("prior_std") ** 2),
        spread=column("spread"),
        spread_floor=column("floor"),
        low=column("low"),
        high=column("high"),
        record_scale=column("scale"),
        usual_square=column("usual_square"),
        own_price=column("own_price"),
    )


def own_price_index(coefficients: tuple[CoefficientSpec, ...]) -> tuple[int, ...]:
    """Indices of the coefficients whose sum is the slope of log demand in -price."""
    return tuple(i for i, c in enumerate(coefficients) if c.own_price)
