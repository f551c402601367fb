"""Rules of value sharing: against loops over the full tensor, on any aggregator."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import weights
from p2p_sac_jax.exchange.aggregators import weighted_mean
from p2p_sac_jax.exchange.insight import normalise
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING, ValueSharingInputs
from p2p_sac_jax.hyper import make_hyper
from tests.helpers.exchange_cases import K, insights
from tests.reference import exchange as reference

J, RECEIVERS = 5, 3
NOW = np.float32(50.0)
STEPS = np.array([0.0, 10.0, 400.0], np.float32)
HYPER = make_hyper(TrainConfig())
RULES = HYPER.exchange._replace(
    recency_tau_s=np.float32(20.0), age_max_s=np.float32(40.0)
)
SHARING = tuple(name for name in VALUE_SHARING if name != "none")


def mean_aggregate(edge, weight, x, own, own_weight):
    del own, own_weight
    return weighted_mean(edge, weight, x)


@partial(jax.jit, static_argnames=("mode", "aggregate"))
def estimate(mode, sent, own, edge, aggregate=mean_aggregate):
    return VALUE_SHARING[mode].estimate(
        ValueSharingInputs(
            received=sent,
            own=own,
            edge_weight=edge,
            sender_weight=weights.sender_weight(sent, NOW, RULES, HYPER.weights),
            hyper=RULES,
            now=NOW,
            annealing=weights.annealing(STEPS, RULES.value_half_life)[:, None],
            aggregate=aggregate,
        )
    )


def cells_of(mode):
    return 1 if mode == "scalar" else K


def random_insight(rng, peers, cells, empty=0.2):
    shape = (peers, cells)
    count = rng.uniform(1, 40, shape) * (rng.uniform(size=shape) >= empty)
    stamps = rng.uniform(5, 60, shape)
    insight = insights(rng, peers, cells)._replace(count=count, timestamp=stamps)
    return jax.tree.map(np.float32, insight)


def full(rng, peers, cells):
    """Insights of which nothing is missing or out of date."""
    insight = random_insight(rng, peers, cells, empty=0.0)
    return insight._replace(
        timestamp=np.full_like(insight.timestamp, NOW),
        valid=np.ones_like(insight.valid),
    )


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("mode", SHARING)
def test_matches_the_full_tensor(mode, seed):
    """Cells without a count do not count, as if they were not valid."""
    rng = np.random.default_rng(seed)
    sent = random_insight(rng, J, cells_of(mode))
    own = random_insight(rng, RECEIVERS, cells_of(mode))
    edge = rng.choice([0.0, 0.5, 1.0], size=(RECEIVERS, J)).astype(np.float32)
    value, weight = estimate(mode, sent, own, edge)
    counted = sent._replace(valid=sent.valid * (sent.count > 0))
    name = "precision" if mode in ("shaping", "max") else mode
    expected, share = reference.value_channel(
        name, edge, counted, own, RULES, NOW, STEPS
    )
    np.testing.assert_allclose(weight, share, rtol=1e-4, atol=1e-6)
    reached = share > 0
    # A shape (v - c)/s is rounded at the level c, so flat values lose digits.
    levels = [reference.shape(counted, j) for j in range(J)]
    flattest = max(abs(centre) / scale for centre, scale, _ in levels)
    steepest = max(reference.shape(own, i)[1] for i in range(RECEIVERS))
    atol = 1e-4 + 2 * np.finfo(np.float32).eps * flattest * steepest
    np.testing.assert_allclose(value[reached], expected[reached], rtol=1e-4, atol=atol)


@pytest.mark.parametrize("mode", VALUE_SHARING)
def test_values_without_a_count_never_arrive(mode):
    """A mode marks values that it does not carry by a count of 0."""
    rng = np.random.default_rng(0)
    cells = cells_of(mode)
    sent, own = full(rng, J, cells), full(rng, RECEIVERS, cells)
    edge = np.ones((RECEIVERS, J), np.float32)
    weight = estimate(mode, sent, own, edge)[1]
    assert (np.asarray(weight) > 0).all() == (mode != "none")
    bare = sent._replace(count=np.zeros_like(sent.count))
    np.testing.assert_array_equal(estimate(mode, bare, own, edge)[1], 0.0)
    # Nor does one sender without counts among others.
    count = sent.count.copy()
    count[1] = 0.0
    bare_one = sent._replace(count=count)
    extreme = bare_one._replace(state_value=np.where(count > 0, sent.state_value, 1e6))
    jax.tree.map(
        np.testing.assert_array_equal,
        estimate(mode, bare_one, own, edge),
        estimate(mode, extreme, own, edge),
    )


@pytest.mark.parametrize("mode", SHARING)
def test_the_aggregator_gets_both_sides_on_one_scale(mode):
    """A robust aggregator compares with the receiver's own, where it has data."""
    rng = np.random.default_rng(1)
    sent = random_insight(rng, J, cells_of(mode))
    own = random_insight(rng, RECEIVERS, cells_of(mode))
    edge = np.ones((RECEIVERS, J), np.float32)

    def own_side(edge, weight, x, own, own_weight):
        return 10.0 * own + own_weight, weighted_mean(edge, weight, x)[1]

    value, _ = estimate(mode, sent, own, edge, aggregate=own_side)
    known = (own.valid > 0) & (own.count > 0)
    if mode == "scalar":
        expected = 10.0 * own.state_value + known
    else:
        shape, centre, scale = jax.vmap(normalise)(own)
        expected = centre[:, None] + scale[:, None] * (10.0 * shape + known)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def test_every_mode_has_one_use_and_a_name_for_users():
    assert set(VALUE_SHARING) == set(find_field("exchange.value_sharing").choices())
    uses = {rule.use for rule in VALUE_SHARING.values()}
    assert uses == {"none", "mix", "shaping", "max"}


def test_the_seed_formula_is_one_cell():
    rng = np.random.default_rng(2)
    sent, own = full(rng, J, K), full(rng, RECEIVERS, K)
    with pytest.raises(ValueError, match="K = 1"):
        estimate("scalar", sent, own, np.ones((RECEIVERS, J), np.float32))
