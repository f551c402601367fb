"""An environment of one's own: found by name, checked, refused in one line."""

import importlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import base, registry
from p2p_sac_jax.environments.base import (
    Environment,
    EnvironmentFactory,
    PeerDraw,
    TimeStep,
)
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


def draw(config, population, seed):
    del config, population, seed
    return PeerDraw((), ["one", "two", "three"], np.zeros((3, 1), np.float32))


FACTORY = EnvironmentFactory(make, draw)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, outside the package."""
    text = f"from {__name__} import make\nnumber = 3\nbroken = lambda config: 1 / 0\n"
    more = (
        f"other = lambda config: None\nfrom {base.__name__} import EnvironmentFactory\n"
    )
    more += "undrawn = EnvironmentFactory(make, lambda *_: {}[3])\n"
    (tmp_path / "own_task.py").write_text(text + more)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
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


def test_an_environment_passed_by_a_program_is_found_by_its_name(monkeypatch):
    own = {"GOOD": GOOD, "FACTORY": FACTORY}
    for leaf, given in own.items():
        assert registry.own_environment(given) == f"{__name__}:{leaf}"
    monkeypatch.setattr(registry, "_own", {})  # another program
    assert world_of(f"{__name__}:GOOD").environment is GOOD
    assert world_of(f"{__name__}:FACTORY").names == ["one", "two", "three"]
    assert "must be an Environment" in refusal(registry.own_environment, 3)


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_an_environment_without_a_name_has_to_be_passed_again(monkeypatch, module):
    monkeypatch.setattr(step, "__module__", module)
    given = GOOD._replace(observation_dim=3)
    name = registry.own_environment(given)
    assert name == f"{module}:<step>"
    assert world_of(name).environment is given
    monkeypatch.setattr(registry, "_own", {})
    assert "pass environment=..." in refusal(world_of, name)


def test_a_fault_of_the_users_own_code_is_placed(own, tmp_path):
    place = f"({tmp_path / 'own_task.py'}, line 3)"
    error = "division by zero " + place
    assert refusal(world_of, f"{own}:broken").endswith("ZeroDivisionError: " + error)
    assert "draw its peers" in (line := refusal(world_of, f"{own}:undrawn"))
    assert line.endswith(f"KeyError: 3 {place.replace('3)', '6)')}")
    name = registry.own_environment(GOOD._replace(reset=lambda *_: jnp.ones(3) @ 2))
    assert f"({__file__}, line " in refusal(check_protocol, world_of(name))


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
