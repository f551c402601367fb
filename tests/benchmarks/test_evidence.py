"""What the default run must show; minutes long, run on demand.

``make test ARGS="-m evidence"`` runs this and what else needs time or the network.
"""

import dataclasses

import pytest

from p2p_sac_jax import train
from p2p_sac_jax.config_io import find_field, from_dict
from p2p_sac_jax.configs import guarded, newcomers, pricing

pytestmark = pytest.mark.evidence
SEEDS = 3


def summary_of(preset, workdir):
    config = from_dict(preset.get_config().to_dict())
    return train(dataclasses.replace(config, seeds=SEEDS), workdir, quiet=True)


def test_default_run_learns_and_the_network_does_no_harm(tmp_path):
    found = summary_of(pricing, tmp_path)
    assert found["oracle_fraction"] > found["isolated_oracle_fraction"] - 0.005
    early = "earned_fraction_early"
    assert found[early] > found[f"isolated_{early}"]
    assert found["earned_fraction"] > found["historical_earned_fraction"]
    assert found["oracle_fraction"] > 0.96


def test_newcomers_start_better_with_a_network(tmp_path):
    found = summary_of(newcomers, tmp_path)
    networked = found["newcomer_earned_fraction"]
    assert networked > found["isolated_newcomer_earned_fraction"] + 0.02
    assert networked > found["historical_newcomer_earned_fraction"] + 0.02


def under_attack(preset, kind, workdir):
    """A third of the sixteen peers is byzantine; figures are those of the others."""
    config = from_dict(preset.get_config().to_dict())
    attack = dataclasses.replace(config.attack, kind=kind, byzantine=5)
    config = dataclasses.replace(config, attack=attack, arms="memory,network")
    return train(config, workdir, quiet=True)


@pytest.mark.parametrize(
    "kind", sorted({*find_field("attack.kind").choices()} - {"none"})
)
def test_recommended_settings_stand_every_attack(kind, tmp_path):
    found = under_attack(guarded, kind, tmp_path)
    for figure in ("oracle_fraction", "earned_fraction"):
        assert found[figure] > found[f"isolated_{figure}"] - 0.01


def test_plain_means_do_not(tmp_path):
    """The cost of the attack without robust settings."""
    found = under_attack(pricing, "gaussian", tmp_path)
    early = "earned_fraction_early"
    assert found[early] < found[f"isolated_{early}"] - 0.01
