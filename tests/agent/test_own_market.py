"""A market of one's own: the documented one, what it lacks, and what goes wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from p2p_sac_jax.agent.core import make_core
from p2p_sac_jax.agent.market import (
    MarketError,
    MarketOutcome,
    check_market,
    reset_market,
    step_market,
)
from p2p_sac_jax.agent.real_data import RealData
from p2p_sac_jax.agent.settings import named_environment
from p2p_sac_jax.config import ConfigError
from tests.helpers.agents import NAMES, agent_config
from tests.helpers.hub_peers import run

CONFIG = agent_config()
PAGE = Path(__file__).parents[2] / "docs" / "own_market.md"


def documented_market():
    """That of the page, as written."""
    names = {}
    code = re.search(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    exec(code[1], names)
    return names["factory"](CONFIG, NAMES[0])


@run
async def test_the_documented_market_runs_as_written():
    """Its rule clamps prices; what is learned is what was charged."""
    market = documented_market()
    check_market(market, "docs")
    assert market.params.unit_cost == np.float32(0.6)
    data = RealData(make_core(CONFIG, named_environment(CONFIG.environment)).components)
    obs = await reset_market(market, 0)
    for clock, action in enumerate([-1.0, 0.3, 1.0]):
        asked = np.array([action], np.float32)
        outcome = await step_market(market, asked, clock)
        step = data.step(
            *(clock, data.state(clock, obs, obs), outcome.charged, outcome.reward),
            *(outcome.observation, outcome.terminated, outcome.log_sales),
        )
        price = max(1.5**action, 0.8)
        assert outcome.metrics["price"] == pytest.approx(price)
        taken = float(1.5 ** step.transition.action[0])
        assert taken == pytest.approx(price, rel=1e-5)
        assert step.transition.next_obs[5] == pytest.approx(4 * np.log(price), rel=1e-4)
        assert step.kept == 1.0
        obs = outcome.observation
    # Nothing is sold at the highest price: an ordinary week.
    assert step.log_sales == -3.0
    assert data.counts == {"weeks_left_out": 0.0, "weeks_bounded": 0.0}


class Till:
    """A market whose week ends as told."""

    environment, params, observation_dim, action_dim = None, (), 2, 1

    def __init__(self, end):
        self.end = end

    def reset(self, clock):
        return self.end()

    def step(self, action, clock):
        return self.end()


def raising(error):
    def end():
        raise error

    return end


GOOD = MarketOutcome(np.zeros(2, np.float32), 1.0, False, 0.0, {"units": 3})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("till server did not answer"), "did not answer"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionResetError(104, "reset by peer"), "reset by peer"),
        (ConfigError("last_price=19.99 must be in [0, 3]"), "last_price=19.99"),
    ],
)
@run
async def test_a_passing_fault_is_a_week_of_which_nothing_is_known(
    error, words, caplog
):
    outcome = await step_market(Till(raising(error)), np.zeros(1), 9)
    assert np.isnan([outcome.reward, *outcome.observation]).all()
    (line,) = caplog.records
    assert line.getMessage() == "week of the market lost"
    assert line.data["clock"] == 9
    assert words in line.data["reason"]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "market.step returned NoneType, must be a MarketOutcome"),
        (GOOD._asdict(), "market.step returned dict, must be"),
        (GOOD._replace(metrics=None), "metrics=None must be numbers by name"),
        (
            GOOD._replace(metrics={"note": "promotion"}),
            r"metrics\['note'\]='promotion' must be a finite number",
        ),
    ],
)
@run
async def test_what_cannot_pass_gets_one_line(returned, words):
    with pytest.raises(ConfigError, match=words):
        await step_market(Till(lambda: returned), np.zeros(1), 0)


@run
async def test_a_fault_of_the_market_names_it_in_one_line():
    broken = Till(raising(KeyError("price")))
    with pytest.raises(
        MarketError, match=r"^market\.step failed: KeyError\('price'\)$"
    ):
        await step_market(broken, np.zeros(1), 0)
    with pytest.raises(MarketError, match=r"^market\.reset failed: KeyError"):
        await reset_market(broken, 0)


@run
async def test_missing_metrics_are_left_out_and_a_silent_start_is_refused():
    odd = GOOD._replace(metrics={"units": 3, "stock": None, "margin": np.nan})
    outcome = await step_market(Till(lambda: odd), np.zeros(1), 0)
    assert outcome.metrics == {"units": 3.0}
    with pytest.raises(ConfigError, match=r"market\.reset: TimeoutError"):
        await reset_market(Till(raising(TimeoutError())), 0)


def test_what_a_market_lacks_is_named_in_one_line():
    class Half:
        environment, observation_dim, action_dim = "pricing", 4.0, 1

        def reset(self, clock):
            return np.zeros(4)

    with pytest.raises(ConfigError) as refused:
        check_market(Half(), "--market=shop:Half")
    message = str(refused.value)
    assert message.startswith("--market=shop:Half: Half must have environment (an")
    for lacking in ("params", "observation_dim (a whole number", "step (a function"):
        assert lacking in message
    assert "reset" not in message
    assert "\n" not in message
