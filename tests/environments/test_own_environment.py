"""An environment of one's own: found by name, checked, refused in one line."""

import importlib

import jax.numpy as jnp
import pytest

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import registry
from p2p_sac_jax.environments.base import Environment, TimeStep
from p2p_sac_jax.environments.conformance import check_protocol
from p2p_sac_jax.types import Score
from p2p_sac_jax.validation import validate
from tests.helpers.configs import changed, refusal

NO_DEMAND = {"memory.kind": "none", "exploration.source": "policy"}


def reset(key, params):
    del key, params
    return jnp.zeros(()), jnp.zeros((2,))


def step(key, state, action, params):
    """Rewards 1, 2, 3 of episodes of three steps."""
    del key, action, params
    after = state + 1.0
    over = after >= 3.0
    obs, zero = jnp.zeros((2,)), jnp.zeros(())
    score = Score(achieved=after, oracle=zero, baseline=zero)
    state = jnp.where(over, 0.0, after)
    return TimeStep(state, obs, after, over, jnp.zeros((), bool), obs, score)


def cell(obs):
    del obs
    return jnp.zeros((), jnp.int32)


GOOD = Environment(reset, step, cell, lambda info: info, 2, 1, 1)


def make(config):
    del config
    return GOOD


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, outside the package."""
    text = f"from {__name__} import make\nnumber = 3\nbroken = lambda config: 1 / 0\n"
    (tmp_path / "own_task.py").write_text(text + "other = lambda config: None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return "own_task"


def world_of(name, peers=3):
    return registry.make_world(
        EnvironmentConfig(name=name), PopulationConfig(peers=peers)
    )


def test_a_factory_is_found_by_module_and_name(own):
    validate(changed(NO_DEMAND | {"environment.name": f"{own}:make"}))
    world = world_of(f"{own}:make")
    assert world.environment is GOOD
    assert world.names == ["peer 0", "peer 1", "peer 2"]
    check_protocol(world)


def test_an_environment_made_by_the_program_has_the_name_of_its_step():
    name = registry.own_environment(GOOD)
    assert name == f"{__name__}:step"
    assert world_of(name).environment is GOOD
    assert "must be an Environment" in refusal(registry.own_environment, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:make", "does not load: ModuleNotFoundError: No module named"),
        ("own_task:nothing", "does not load: AttributeError: module 'own_task' has no"),
        ("own_task:number", "must be a function or an EnvironmentFactory, not 3"),
        ("own_task:broken", "does not load: ZeroDivisionError: division by zero"),
        ("own_task:other", "makes no Environment but NoneType"),
        ("chess", "must be one of pricing, pendulum, lqr, module:factory"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_cannot_be_loaded_is_one_line(name, reason):
    config = changed(NO_DEMAND | {"environment.name": name})
    assert refusal(validate, config).startswith(f"environment.name={name!r} {reason}")
    # A deployed agent that names it says the same.
    assert f"environment.name={name!r}" in refusal(P2PSACAgent, 2, 1, config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation_dim": 3}, "obs of reset is float32[2], it must be float32[3]"),
        ({"cell": lambda obs: obs[0]}, "cell is float32[], it must be int32[]"),
        ({"score": lambda info: info.oracle}, "TypeError: score returns no Score"),
        ({"step": lambda *_: None}, "TypeError: step returns no TimeStep but NoneType"),
        ({"reset": lambda key: key}, "does not run: TypeError"),
        (
            {"reset": lambda key, params: (jnp.zeros((), int), jnp.zeros(2))},
            "step returns another state than reset, by type",
        ),
    ],
)
def test_what_breaks_the_protocol_is_one_line(changes, words):
    name = registry.own_environment(GOOD._replace(**changes))
    assert words in refusal(check_protocol, world_of(name))
