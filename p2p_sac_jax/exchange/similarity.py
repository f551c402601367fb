"""Whose world is like mine: similarity of peers by what is public of them.

NumPy: public descriptors do not change while a run lasts.
"""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.exchange.topology import Matrix


def context_similarity(context: np.ndarray, width: float) -> Matrix:
    """Gaussian kernel exp(-d²/2width²) of the peers' public descriptors.

    d is the Euclidean distance over the square root of the number of descriptors, so
    that one width means the same for few and for many.

    Args:
      context: [P, C] public descriptors, standardised, C at least 1.
      width: distance that costs a factor e^-1/2; 0 ignores context.

    Returns:
      [P, P] float32 in [0, 1], symmetric, 1 on the diagonal; ones for width = 0.
    """
    peers = len(context)
    if width == 0.0:
        return np.ones((peers, peers), np.float32)
    context = np.asarray(context, np.float64)
    apart = np.square(context[:, None] - context[None]).mean(axis=-1)
    with np.errstate(over="ignore"):  # infinitely many widths apart: no similarity
        widths = np.sqrt(apart) / width
        return np.exp(-0.5 * np.square(widths)).astype(np.float32)
