"""What an accelerator computes against the CPU: run by name (-m accelerator)."""

import jax
import pytest

from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.devices import Placement
from tests.helpers.populations import assert_close, run, small_config

pytestmark = pytest.mark.accelerator


@pytest.fixture(scope="module")
def accelerator():
    device = jax.devices()[0]
    assert device.platform != "cpu", "JAX finds no accelerator here"
    return device


@pytest.mark.parametrize("environment", ["pricing", "pendulum"])
def test_cpu_and_accelerator_agree_to_1e_4(accelerator, environment):
    config = small_config()
    if environment == "pendulum":
        config = small_config(
            environment={"name": "pendulum"},
            memory={"kind": "none"},
            model_rollouts={"fraction": 0.0},
            exploration={"source": "policy"},
        )
    states = []
    for device in (jax.devices("cpu")[0], accelerator):
        with jax.default_device(device), jax.default_matmul_precision("float32"):
            placement = Placement("vmap", None, config.population.peers, 0)
            outcome = run(config, setup=build_experiment(config, placement))
        assert {device} == set(outcome.state.obs.devices())
        states.append(outcome.state)
    assert int(states[0].learner.updates.min()) >= 32
    assert_close(*states, 1e-4)
