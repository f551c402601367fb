"""Policies in markets that they were not trained in."""

import dataclasses

import numpy as np
import pytest

from benchmarks import transfer as module
from benchmarks.transfer import ARMS, transfer
from p2p_sac_jax.config import ConfigError
from tests.helpers.populations import small_config


def config(**population):
    stores = {"peers": 4, "newcomers": 1, "join_step": 4} | population
    root = {"arms": ARMS, "seeds": 2, "steps": 8, "evaluation_weeks": 4}
    return small_config(root=root, population=stores)


@pytest.mark.thorough
def test_own_and_held_out_markets(monkeypatch):
    """Every row of a held-out evaluation has the newcomer's market."""
    seen = {}
    original = module._all_in_market

    def spy(setup, store):
        peer_inputs = original(setup, store)
        seen.update(setup=setup, store=store, peer_inputs=peer_inputs)
        return peer_inputs

    monkeypatch.setattr(module, "_all_in_market", spy)
    first, second = transfer(config())
    assert (first.pop("seed"), second.pop("seed")) == (0, 1)
    for shares in (first.values(), second.values()):
        assert len(shares) == 5
        assert all(np.isfinite(share) and share <= 1.0 + 1e-5 for share in shares)
    # The one newcomer's market, in every row.
    sensitivity = np.asarray(seen["peer_inputs"].params.alpha)
    own = np.asarray(seen["setup"].peer_inputs.params.alpha)
    assert seen["store"] == 3
    np.testing.assert_array_equal(sensitivity, np.full(4, own[3]))
    assert len(set(own.tolist())) == 4


@pytest.mark.parametrize(
    ("population", "arms", "message"),
    [
        ({"newcomers": 0, "join_step": 0}, ARMS, r"population\.newcomers=0 must be"),
        ({}, "network", r"arms='network' must be 'memory,network'"),
    ],
)
def test_what_cannot_be_compared_is_refused(population, arms, message):
    asked = dataclasses.replace(config(**population), arms=arms)
    with pytest.raises(ConfigError, match=message):
        transfer(asked)
