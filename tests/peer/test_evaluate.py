"""The return of an episode, where episodes end early, late, or never."""

import numpy as np
import pytest

from p2p_sac_jax.peer.evaluate import Episode, mean_return


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ([], [], 36.0),  # none ends: all eight steps
        ([7], [], 36.0),
        ([], [7], 36.0),
        ([2], [], 6.0),  # the second is not over
        ([2], [5], 21 / 2),
        ([0, 1, 2], [], 2.0),
    ],
)
def test_return_is_the_mean_of_episodes_that_ended(terminated, truncated, expected):
    ends = np.zeros((2, 8), bool)
    ends[0, terminated] = ends[1, truncated] = True
    reward, obs = np.arange(1.0, 9.0), np.zeros((8, 1))
    assert mean_return(Episode(obs, reward, obs, *ends)) == expected
