"""Epsilons from closed forms: Gaussian mechanisms and randomised responses."""

import math

import numpy as np
from scipy import optimize, special, stats


def gaussian_delta(epsilon, mu):
    """Delta of a Gaussian mechanism of shift mu (Balle and Wang 2018, Theorem 5).

    Holds for any real epsilon, an array too.
    """
    beyond = epsilon + special.log_ndtr(-epsilon / mu - mu / 2.0)
    return special.ndtr(-epsilon / mu + mu / 2.0) - np.exp(np.minimum(beyond, 0.0))


def epsilon(mu, delta, responses=0, each=1.0):
    """Of a Gaussian mechanism of shift mu and n responses of epsilon ``each``.

    The loss of the responses is each · (2 B - n), B binomial, so delta is the mean of
    the Gaussian's at what that leaves of epsilon.
    """
    truths = np.arange(responses + 1)
    chance = stats.binom.pmf(truths, responses, special.expit(each))
    loss = each * (2.0 * truths - responses)

    def excess(epsilon):
        return float(chance @ gaussian_delta(epsilon - loss, mu)) - delta

    most = responses * each + mu * mu + 20.0 * mu + 10.0
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-10))  # pyright: ignore


def zcdp_epsilon(rho, delta):
    """Upper bound for ρ-zCDP (Bun and Steinke 2016, Proposition 1.3)."""
    return rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta))
