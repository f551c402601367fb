"""Steps of a real market, as an agent learns them; no program is compiled."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.agent.core import make_core
from p2p_sac_jax.agent.price_history import price_action
from p2p_sac_jax.agent.real_data import RealData
from p2p_sac_jax.agent.settings import generic_environment, named_environment
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.environments.observation import observation
from p2p_sac_jax.environments.week_figures import MAX_LOG_SALES, USUAL_WEEKS
from tests.helpers.agents import agent_config
from tests.helpers.populations import assert_identical

CONFIG = agent_config()
OBS, NEXT = observation(3, 0.6), observation(4, 0.6, last_price=1.1)


def shop():
    return RealData(make_core(CONFIG, named_environment(CONFIG.environment)).components)


def learned(data=None, **figures):
    good = {"action": [0.2], "reward": 1.0, "next_state": NEXT}
    good |= {"terminated": False, "log_sales": 0.1}
    return (data or shop()).step(7, OBS, **good | figures)


def entry_8(value):
    return [value if entry == 8 else x for entry, x in enumerate(NEXT.tolist())]


@pytest.mark.parametrize(
    ("absurd", "bounded"),
    [
        ({"reward": 1e39}, {"reward": USUAL_WEEKS}),
        ({"reward": -1e6}, {"reward": -USUAL_WEEKS}),
        ({"log_sales": 1e30}, {"log_sales": MAX_LOG_SALES}),
        ({"log_sales": -9.0}, {"log_sales": -MAX_LOG_SALES}),
        ({"next_state": entry_8(1e30)}, {"next_state": entry_8(USUAL_WEEKS)}),
        # Beyond float32 an entry is missing; last week's stands in.
        ({"next_state": entry_8(1e39)}, {"next_state": entry_8(OBS[8])}),
        ({"next_state": entry_8(np.nan)}, {"next_state": entry_8(OBS[8])}),
    ],
)
def test_one_absurd_week_is_bounded_and_reported(absurd, bounded, caplog):
    data = shop()
    step = learned(data, **absurd)
    assert data.counts == {"weeks_left_out": 0.0, "weeks_bounded": 1.0}
    assert "step 7: " in caplog.text
    caplog.clear()
    assert_identical(step, learned(**bounded))
    assert not caplog.text


def test_a_week_without_sales_is_an_ordinary_one(caplog):
    for nothing in (-np.inf, np.float32(-np.inf), jnp.log(0.0)):
        step = learned(log_sales=nothing)
        assert_identical(step, learned(log_sales=-MAX_LOG_SALES))
    assert not caplog.text


@pytest.mark.parametrize(
    "figure",
    [
        {"reward": np.nan},
        {"reward": np.inf},
        {"reward": np.array(np.nan)},
        {"reward": jnp.asarray(jnp.inf)},
        {"log_sales": np.float32("nan")},
    ],
)
def test_a_missing_figure_teaches_nothing(figure, caplog):
    data = shop()
    assert learned(data, **figure) is None
    assert data.counts == {"weeks_left_out": 1.0, "weeks_bounded": 0.0}
    assert "nothing is learned" in caplog.text


def test_the_action_charged_decides_what_learns_it():
    assert learned(action=price_action(0.9)).kept == 1.0
    promotion = learned(action=price_action(0.5))  # no action names this price
    assert promotion.kept == 0.0
    np.testing.assert_allclose(1.5**promotion.transition.action, 0.5, rtol=1e-6)


def test_missing_entries_of_a_state_are_the_last_ones(caplog):
    state = shop().state(7, entry_8(np.nan), OBS)
    np.testing.assert_array_equal(state, entry_8(OBS[8]))
    assert "step 7: state: 1 of 11 entries are missing" in caplog.text


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ({"action": [7.0]}, "action of shape"),
        ({"reward": "1.2"}, "reward='1.2' must be a finite number"),
        ({"reward": None}, "reward=None must be"),
        ({"reward": True}, "reward=True must be"),
        ({"log_sales": None}, "log_sales=None must be"),
        ({"next_state": NEXT[:4]}, r"next_state of shape \(4,\) must be 11"),
    ],
)
def test_what_is_no_figure_is_refused_in_one_line(figure, words):
    with pytest.raises(ConfigError, match=words):
        learned(**figure)


def test_an_environment_of_unknown_scale_has_a_wide_bound(caplog):
    caplog.set_level(logging.WARNING)
    config = replace_fields(
        CONFIG, {"memory.kind": "none", "exploration.source": "policy"}
    )
    data = RealData(make_core(config, generic_environment(11, 1)).components)
    assert learned(data, reward=-900.0, log_sales=None).transition.reward == -900.0
    assert not caplog.text
    assert learned(data, reward=1e20).transition.reward == 1e6
    with pytest.raises(ConfigError, match="within 1"):
        learned(data, action=[1.5])
