"""Contracts of whole exchange rounds, whatever they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.exchange.exchange import ExchangeInputs, make_exchange
from p2p_sac_jax.exchange.send_policy import after_round, init_send_state
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.simulation.network import Conditions, make_simulated_network
from p2p_sac_jax.types import LocalSummary
from tests.helpers.contracts import (
    SEEDS,
    P,
    assert_close,
    check_contract,
    check_one_peer,
    check_padding_and_runs,
    compiled,
    cut,
    outcome,
    replaced,
)
from tests.helpers.exchange_cases import (
    BASE,
    BYZANTINE_FRACTION,
    CLOCK,
    NOW,
    VALUE_MODES,
    F,
    K,
    random_trust,
    received,
    settings,
)
from tests.helpers.rounds import NETWORKS, ROUNDS, mode_of

pytestmark = pytest.mark.slow
KINDS = {**ROUNDS, **NETWORKS}
MODES = find_field("exchange.mode").choices()
# Their aggregators pass the same contract alone, in ``test_part_contracts``.
THOROUGH = {"centred_clipping", "krum", "multi_krum", "nearest_neighbour"}
THOROUGH |= {"trimmed_mean", "geometric_median", "none", "pooling none"}
NAMES = [
    pytest.param(name, marks=pytest.mark.thorough)
    if name.removeprefix("round: ") in THOROUGH
    else name
    for name in KINDS
]


def test_nothing_is_left_out():
    assert {f"network: {name}" for name in MODES} <= set(NETWORKS)
    robust = set(find_field("exchange.aggregator").choices()) - {"mean"}
    shared = set(find_field("memory.pooling").choices()) - {"prior"}
    named = {*VALUE_MODES.values(), *robust, *(f"pooling {name}" for name in shared)}
    assert {f"round: {name}" for name in named} == set(ROUNDS)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    """Shapes, order of peers, finite results, absent senders, one compilation."""
    check_contract(KINDS[name])


# One of each sort. Not attacks: messages of masked peers must be empty then, which is
# tested where messages are arguments.
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "peers"),
    [
        ("round: precision", 64),  # more than 32 compute demand priors by blocks
        ("network: consortium", 8),
        ("network: faults", 8),
        pytest.param("round: krum", 8, marks=pytest.mark.thorough),
        pytest.param("network: public", 8, marks=pytest.mark.thorough),
    ],
)
def test_masked_peers_change_nothing_and_runs_are_a_batch_axis(name, peers):
    check_padding_and_runs(KINDS[name], peers)


def test_one_peer_alone():
    check_one_peer(KINDS["round: precision"])


def without_senders(name, args, why):
    """The arguments of a round in which no message counts."""
    kind = KINDS[name]
    if why == "no edges":
        return cut(kind, args)
    if why == "empty messages":
        sent = kind.takes.index("j")
        return replaced(args, sent, jax.tree.map(np.zeros_like, args[sent]))
    position = 5 if name in ROUNDS else len(args) - 2
    rules = args[position]
    off = rules.exchange._replace(network_weight=np.float32(0.0))
    return replaced(args, position, rules._replace(exchange=off))


@pytest.mark.parametrize("why", ["no edges", "empty messages", "network_weight = 0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_receiver_without_senders_is_left_alone(name, why):
    """Weights, values and metrics exactly 0, the base prior and the trust before."""
    kind = KINDS[name]
    for seed in SEEDS:
        args = without_senders(name, tuple(kind.make(P, seed)), why)
        guidance, trust, metrics, *arrived = outcome(kind, args)
        for prior, base in zip(guidance.prior, BASE.prior, strict=True):
            np.testing.assert_array_equal(prior, np.broadcast_to(base, prior.shape))
        np.testing.assert_array_equal(trust, args[kind.takes.index("T")])
        for leaf in jax.tree.leaves((guidance._replace(prior=()), metrics)):
            np.testing.assert_array_equal(leaf, 0.0)
        if arrived and why != "empty messages":
            np.testing.assert_array_equal(arrived[0], 0.0)


# Where everything leaves in full: other modes coarsen it, and add noise.
@pytest.mark.parametrize("name", [*NAMES[: len(ROUNDS)]])
def test_equal_insights_come_back(name):
    for seed in SEEDS:
        args = ROUNDS[name].make(P, seed)
        one = jax.tree.map(lambda x: np.repeat(x[:1], P, axis=0), args[0])
        full = np.ones_like(one.insight.valid)
        insight = one.insight._replace(valid=full, timestamp=900.0 * full)
        sent = one._replace(insight=insight)
        ring = topology.adjacency("ring", P)
        own = LocalSummary(*sent[:3])
        given = (sent, own, ring, *args[3:])
        guidance, *_ = outcome(ROUNDS[name], given)
        assert_close(guidance.entropy, insight.entropy)
        assert_close(guidance.trend, sent.trend)
        if name != "round: none":  # where values are not shared
            assert (guidance.value_weight > 0.0).all()
            assert_close(guidance.value, insight.state_value)


# Gradients are stopped in one place. The traced gradient must be constant zeros.
@pytest.mark.parametrize(
    "name",
    [
        *("round: precision", "round: geometric_median"),
        *("network: consortium", "network: public"),
        pytest.param("round: scalar", marks=pytest.mark.thorough),
        pytest.param("network: dissensus", marks=pytest.mark.thorough),
    ],
)
def test_no_gradient_crosses(name):
    args = KINDS[name].make(P, 1)
    leaves, structure = jax.tree.flatten(args)
    floats = [n for n, x in enumerate(leaves) if np.asarray(x).dtype == np.float32]

    def total(varied):
        given = list(leaves)
        for n, leaf in zip(floats, varied, strict=True):
            given[n] = leaf
        results = compiled(KINDS[name], P)(*jax.tree.unflatten(structure, given))[:3]
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(results))

    traced = jax.make_jaxpr(jax.grad(total))([leaves[n] for n in floats])
    constant, used = dce_jaxpr(traced.jaxpr, [True] * len(floats))
    assert not any(used)
    for leaf in jax.core.eval_jaxpr(constant, traced.consts):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["round: precision", "network: faults"])
def test_rounds_can_be_scanned(name):
    """Trust is carried from round to round, as in a loop."""
    kind = KINDS[name]
    args = kind.make(P, 1)
    place = kind.takes.index("T")

    def given(trust, now):
        filled = replaced(args, place, trust)
        if name in NETWORKS:
            return replaced(filled, len(args) - 1, now)
        return replaced(filled, 6, now)

    def one(trust, now):
        guidance, trust, *_ = compiled(kind, P)(*given(trust, now))
        return trust, guidance

    clocks = np.int32([4, 8, 12])
    rounds = jax.jit(lambda *xs: jax.lax.scan(one, *xs))
    trust, scanned = rounds(args[place], clocks)
    expected = args[place]
    for t, now in enumerate(clocks):
        guidance, expected, *_ = outcome(kind, given(expected, now))
        assert_close(jax.tree.map(lambda leaf, t=t: leaf[t], scanned), guidance)
    assert_close(trust, expected)


@pytest.mark.parametrize("name", MODES)
def test_sending_and_exchange_can_be_scanned(name):
    """Peers encode, send with delays and receive: shapes stay; traced alone."""
    config = settings(exchange={"mode": name}, faults={"delay": 2})
    mode = mode_of(config)
    network = make_simulated_network(config, BASE, mode)
    args = NETWORKS[f"network: {name}"].make(P, 0)
    inputs, _, _, own, steps, presence, _, _, edges, trust, seed, rules, clock = args

    def encode(one):
        return mode.encode(one, jax.random.key(0), clock // 4, NOW)

    def send(state, channel, one, participation):
        sent = jnp.asarray(True)
        state = after_round(state, encode(one), one.message, sent, clock)
        return state, *network.transmit(channel, state, sent, participation)

    def one_round(carry, _):
        states, channels, trust = carry
        states, channels, messages = jax.vmap(send)(states, channels, inputs, presence)
        result = network.exchange(
            ExchangeInputs(
                mode.decode(messages), own, edges, trust, steps, rules, clock, NOW
            ),
            Conditions(presence, presence, (), seed),
        )
        return (states, channels, result.trust), result.guidance

    message = jax.eval_shape(encode, jax.tree.map(lambda leaf: leaf[0], inputs))
    one_sender = init_send_state(message, K, 1), network.init_channel(message)
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (P, *x.shape)), one_sender)
    start = *stacked, trust
    end, guidance = jax.eval_shape(lambda: jax.lax.scan(one_round, start, None, 3))
    assert jax.tree.map(jnp.shape, end) == jax.tree.map(jnp.shape, start)
    assert guidance.value.shape == (3, P, K)


# Sizes that no two axes share, so that a shape shows its axes.
PEERS, CELLS, BLOCK = 48, 20, 32


def shapes_of(jaxpr):
    """Of all arrays that a program makes, those inside its loops included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for parameter in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from shapes_of(inner)


def arrays_of_round(aggregator):
    rng = np.random.default_rng(0)
    mode = mode_of(settings())
    exchange = make_exchange(
        BASE,
        value_sharing="precision",
        pooling="prior",
        aggregator=aggregator,
        byzantine_fraction=BYZANTINE_FRACTION,
        clamp=mode.clamp,
    )

    def decoded(inputs):
        return exchange(inputs._replace(received=mode.decode(inputs.received)))

    own = LocalSummary(*received(rng, PEERS, CELLS)[:3])
    inputs = ExchangeInputs(
        received=own,  # in mode private a message is the summary
        own=own,
        edges=topology.adjacency("complete", PEERS),
        trust=random_trust(rng, PEERS),
        own_steps=np.zeros(PEERS, np.float32),
        hyper=make_hyper(TrainConfig()),
        clock=CLOCK,
        now=NOW,
    )
    return list(shapes_of(jax.make_jaxpr(decoded)(inputs).jaxpr))


def pairs_by_cell(shapes):
    """Shapes with receivers, senders and cells, in whatever order."""
    return [x for x in shapes if x.count(PEERS) >= 2 and CELLS in x]


def test_the_default_round_holds_no_array_of_pairs_by_cell():
    """Sums over senders are contractions, as every aggregator but the mean is not.

    The largest arrays are those of the demand prior, [32, J, F, F] as it works on 32
    receivers at a time: they grow with the number of peers, and not with its square.
    """
    shapes = arrays_of_round("mean")
    assert (BLOCK, PEERS, F, F) in shapes
    assert not pairs_by_cell(shapes)
    largest = max(np.prod(shape, dtype=int) for shape in shapes)
    assert largest == BLOCK * PEERS * F * F
    assert largest < PEERS * PEERS * CELLS
    assert pairs_by_cell(arrays_of_round("median"))  # so such arrays are found
