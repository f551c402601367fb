"""The membership game: what it plants, what it records, what bounds it."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.leakage import attack, leakage_bounds
from benchmarks.leakage_game import EVERYTHING, make_game
from p2p_sac_jax.config import ConfigError
from tests.helpers.populations import small_config

WORLDS = 32  # of each kind
ENTRY, LAST = range(2)  # the messages: with the week, and four weeks later
BLANK = {"values", "counts"}


def config_of(mode="consortium", **sections):
    return small_config(
        root={"steps": 12},
        population={"peers": 2},
        exchange={"mode": mode, "interval": 4, "value_sharing": "none"}
        | {"entropy_sharing": True},
        **sections,
    )


@pytest.fixture(scope="module")
def game():
    """No values are shared; demand leaves without noise, from its eighth week on."""
    return make_game(config_of(privacy={"demand_noise": 0.0}), 2 * WORLDS, planted=4)


@pytest.fixture(scope="module")
def sent(game):
    """What left with the target in half of the runs, and with it in none."""
    inside = np.arange(2 * WORLDS) < WORLDS
    return game(inside), game(np.zeros_like(inside))


@pytest.mark.thorough
def test_every_number_of_a_message_is_in_one_channel(sent):
    messages, _ = sent
    assert set(messages) == {*BLANK, "entropy", "demand", EVERYTHING}
    assert all(x.shape[:2] == (2 * WORLDS, 2) for x in messages.values())
    numbers = {name: x.shape[-1] for name, x in messages.items()}
    assert numbers["demand"] == 11  # five means, five variances, and whether
    time = 1
    assert 2 * numbers[EVERYTHING] == sum(numbers.values()) + time


@pytest.mark.thorough
def test_a_game_is_played_again_to_the_bit(sent):
    messages, again = (
        {name: x[WORLDS:].tobytes() for name, x in one.items()} for one in sent
    )
    assert messages == again  # the week is ordinary in these runs, both times


@pytest.mark.thorough
def test_masked_fields_do_not_depend_on_the_week(sent):
    def changed(message):
        one, other = (
            {name: x[:WORLDS, message].tobytes() for name, x in messages.items()}
            for messages in sent
        )
        return {name for name in one if one[name] != other[name]}

    assert not changed(ENTRY) & {*BLANK, "demand"}
    assert not changed(LAST) & BLANK
    assert {"demand", "entropy", EVERYTHING} <= changed(LAST)
    found = attack(sent[0], WORLDS)
    for name in BLANK:
        assert (found[name].low, found[name].auc, found[name].high) == (0.5, 0.5, 0.5)


@pytest.mark.thorough
def test_worlds_of_one_kind_are_not_told_apart(sent):
    """By the law of a rank statistic: half the worlds are scored, all channels seen."""
    scored, leaks = WORLDS // 2, attack(sent[1], WORLDS).values()
    spread = math.sqrt((2 * scored + 1) / (12 * scored**2))  # Mann and Whitney 1947
    chance = 0.001 / len(leaks)  # of a false alarm, on both sides
    for leak in leaks:
        assert leak.low <= 0.5  # nobody does better than a guess
        assert abs(leak.auc - 0.5) < spread * stats.norm.isf(chance / 2)


@pytest.mark.thorough
def test_demand_without_noise_gives_the_week_away(sent):
    last = attack({name: x[:, LAST:] for name, x in sent[0].items()}, WORLDS)
    assert last["demand"].low > 0.5
    assert last["demand"].auc > 0.9


def noise(mode, **privacy):
    return config_of(mode, privacy=privacy)


def test_bounds_are_those_of_the_mechanisms():
    assert leakage_bounds(config_of("private"), 1) == {}
    assert leakage_bounds(noise("consortium", value_noise=0, demand_noise=0), 1) == {}
    one = leakage_bounds(noise("consortium", value_noise=2.0, demand_noise=4.0), 1)
    assert one["counts"] == pytest.approx(stats.norm.cdf(0.5 / math.sqrt(2)))
    assert one["values"] == pytest.approx(stats.norm.cdf(0.5))
    assert one["demand"] == pytest.approx(stats.norm.cdf(0.25 / math.sqrt(2)))
    many = leakage_bounds(noise("consortium", value_noise=2.0, demand_noise=4.0), 9)
    assert many["demand"] == one["demand"]  # one mechanism, however many releases
    assert many["counts"] == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)))
    anew = noise("consortium", demand_noise=4.0, release="independent")
    assert leakage_bounds(anew, 9)["demand"] > many["demand"]
    assert not {"entropy", EVERYTHING} & set(many)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
def test_randomised_responses_stay_below_their_bound(epsilon):
    """Worst worlds: all signs turned, so the number of + tells all there is."""
    cells, truth = 20, 1.0 / (1.0 + math.exp(-epsilon))
    up, down = (
        stats.binom.pmf(np.arange(cells + 1), cells, p) for p in (truth, 1 - truth)
    )
    exact = up @ (np.cumsum(down) - 0.5 * down)
    bound = leakage_bounds(noise("public", trend_epsilon=epsilon), 1)["trend"]
    assert exact <= bound <= exact + 0.07
    assert (
        bound <= leakage_bounds(noise("public", trend_epsilon=epsilon), 1)[EVERYTHING]
    )


@pytest.mark.parametrize("planted", [0, 6, 12])
def test_a_week_enters_between_rounds(planted):
    with pytest.raises(ConfigError, match=f"planted={planted}") as caught:
        make_game(config_of(), 16, planted=planted)
    assert "\n" not in str(caught.value)


def test_a_task_without_demand_is_refused():
    config = config_of(
        memory={"kind": "none"},
        model_rollouts={"fraction": 0.0},
        exploration={"source": "policy"},
        environment={"name": "lqr"},
    )
    with pytest.raises(ConfigError, match=r"environment\.name='lqr'"):
        make_game(config, 16, planted=4)
