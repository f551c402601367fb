"""Every kind of experiment runs end to end, called from Python, under strict JAX."""

import dataclasses
import json
import math

import pytest

from p2p_sac_jax import train
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.configs import lqr, newcomers, pendulum, reference_price
from tests.helpers.populations import small_config
from tests.helpers.processes import rows

pytestmark = pytest.mark.thorough


def tiny(preset, **root):
    """A preset's idea on the budget of ``small_config``."""
    config, small = from_dict(preset.get_config().to_dict()), small_config()
    exchange = dataclasses.replace(config.exchange, interval=4)
    sac = dataclasses.replace(
        config.sac, hidden=8, batch_size=8, learning_starts=4, updates_per_step=1
    )
    config = dataclasses.replace(
        config, exchange=exchange, sac=sac, steps=8, evaluate_every=4,
        checkpoint_every=4, evaluation_weeks=4,
    )  # fmt: skip
    peers = {"peers": small.population.peers}
    if config.population.newcomers:
        peers |= {"newcomers": 1, "join_step": 4}
    population = dataclasses.replace(config.population, **peers)
    memory = dataclasses.replace(config.memory, pretrain_updates=4)
    return dataclasses.replace(config, population=population, memory=memory, **root)


ONE_DEVICE = {"layout": "vmap", "devices": 1}  # compiles a little faster


def test_newcomers_of_two_seeds_join_late(tmp_path):
    config = tiny(newcomers, seeds=2, arms="memory,network")
    summary = train(config, tmp_path, quiet=True)
    assert summary["seeds"] == 2
    present = {(row["seed"], row["step"]): set() for row in rows(tmp_path)}
    for row in rows(tmp_path):
        if "peer" in row:
            present[row["seed"], row["step"]].add(row["peer"])
    for seed in (0, 1):
        assert present[seed, 4] == {0, 1, 2}
        assert present[seed, 8] == {0, 1, 2, 3}
    # The two seeds are different markets.
    finals = [r["evaluation_reward"] for r in rows(tmp_path) if "population" in r]
    assert len(set(finals)) > 2
    assert summary["bytes_shared_per_peer"] > 0


def test_a_reference_price_effect(tmp_path):
    summary = train(tiny(reference_price, **ONE_DEVICE), tmp_path, quiet=True)
    assert 0.0 < summary["oracle_fraction"] < 1.5
    assert len(json.loads((tmp_path / "stores.json").read_text())) == 12


@pytest.mark.parametrize("preset", [pendulum, lqr])
def test_control_tasks(preset, tmp_path):
    summary = train(tiny(preset), tmp_path, quiet=True)
    assert math.isfinite(summary["evaluation_reward"])
    assert math.isfinite(summary["plain_evaluation_reward"])
    assert "isolated_evaluation_reward" not in summary
    assert json.loads((tmp_path / "stores.json").read_text()) == []
