"""Learning curves of populations whose peers are all alike."""

import numpy as np

from p2p_sac_jax.ablation.run_curves import Curves


def curves_of(level, every=5, peers=2, trained=1.0):
    """A population whose peers all score ``level`` [E], shares of an oracle of 1.

    In training they earn ``trained``; the historical price earns .9 everywhere.
    """
    level = np.repeat(np.array(level, np.float32)[:, None], peers, axis=1)
    oracle = np.ones((every * len(level), peers), np.float32)
    return Curves(
        steps=np.arange(1, len(level) + 1) * every,
        joins=np.zeros(peers, np.int32),
        byzantine=np.zeros(peers, bool),
        episode_return=level,
        oracle_fraction=level,
        baseline_fraction=np.full_like(level, 0.9),
        achieved=oracle * trained,
        oracle=oracle,
        baseline=oracle * 0.9,
        bytes_received=np.zeros_like(level),
        calibration=np.full(len(level), np.nan),
        trust=np.zeros((0, peers, peers)),
    )
