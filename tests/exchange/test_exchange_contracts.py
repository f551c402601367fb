"""What every whole round promises, whatever it is made of; see ``test_contracts``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.exchange.exchange import Clock, make_exchange
from p2p_sac_jax.exchange.send_policy import SendConditions, empty_outbox, publish
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.simulation.network import Broadcast, RoundInfo, make_network
from p2p_sac_jax.types import LocalSummary
from tests.helpers.contracts import (
    SEEDS,
    SIZES,
    P,
    assert_close,
    check_absence,
    check_finite,
    check_one_and_many,
    check_one_trace,
    check_order,
    check_padding_and_runs,
    check_shapes,
    compiled,
    outcome,
    replaced,
    silence,
)
from tests.helpers.exchange_cases import (
    BASE,
    CLOCK,
    NOW,
    TOLERATED,
    VALUE_MODES,
    A,
    F,
    K,
    opinions,
    received,
    settings,
)
from tests.helpers.rounds import LISTENS, ROUNDS, mode_of

pytestmark = pytest.mark.slow
KINDS = {**ROUNDS, **LISTENS}
MODES = find_field("exchange.mode").choices()


def test_nothing_is_left_out():
    assert {f"listen: {name}" for name in MODES} <= set(LISTENS)
    robust = set(find_field("exchange.aggregator").choices()) - {"mean"}
    shared = set(find_field("memory.pooling").choices()) - {"prior"}
    named = {*VALUE_MODES.values(), *robust, *(f"pooling {name}" for name in shared)}
    assert {f"round: {name}" for name in named} == set(ROUNDS)


@pytest.mark.parametrize("name", KINDS)
def test_shapes_follow_the_number_of_peers(name):
    check_shapes(KINDS[name], SIZES if name == "round: precision" else (1, 64))


@pytest.mark.parametrize("name", KINDS)
def test_peers_may_come_in_any_order(name):
    check_order(KINDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_claimed_the_outcome_is_finite(name):
    check_finite(KINDS[name])


# Not where somebody lies: the adversary listens to a sender even if no peer does.
@pytest.mark.parametrize("name", [n for n in KINDS if KINDS[n].byzantine == "absent"])
def test_who_says_no_number_is_as_good_as_absent(name):
    check_absence(KINDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_other_values_do_not_compile_again(name):
    check_one_trace(KINDS[name])


# One of each sort. Not the lies: what masked peers have said must be empty then, which
# is held to where messages are arguments.
@pytest.mark.parametrize(
    "name",
    [
        *("round: precision", "round: krum"),
        *("listen: consortium", "listen: public", "listen: faults"),
    ],
)
def test_masked_peers_change_nothing_and_runs_are_a_batch_axis(name):
    check_padding_and_runs(KINDS[name])


@pytest.mark.parametrize("peers", [1, 64])
def test_one_peer_and_many(peers):
    """More than 32 receivers learn their demand priors by blocks."""
    check_one_and_many(KINDS["round: precision"], peers)


def unheard(name, args, why):
    """The arguments of a round in which nobody is heard."""
    kind = KINDS[name]
    if why == "no edges":
        return silence(kind, args)
    if why == "nothing said":
        claims = kind.takes.index("j")
        return replaced(args, claims, jax.tree.map(np.zeros_like, args[claims]))
    position = 4 if name in ROUNDS else len(args) - 2
    rules = args[position]
    mute = rules.exchange._replace(network_weight=np.float32(0.0))
    return replaced(args, position, rules._replace(exchange=mute))


@pytest.mark.parametrize("why", ["no edges", "nothing said", "network_weight = 0"])
@pytest.mark.parametrize("name", KINDS)
def test_who_hears_nobody_is_left_alone(name, why):
    """Weights, values and reports exactly 0, the base prior and the trust there was."""
    kind = KINDS[name]
    for seed in SEEDS:
        args = unheard(name, kind.make(P, seed), why)
        guidance, trust, weighing, *books = outcome(kind, args)
        for prior, base in zip(guidance.prior, BASE, strict=True):
            np.testing.assert_array_equal(prior, np.broadcast_to(base, prior.shape))
        np.testing.assert_array_equal(trust, args[kind.takes.index("T")])
        for leaf in jax.tree.leaves((guidance._replace(prior=()), weighing)):
            np.testing.assert_array_equal(leaf, 0.0)
        if books and why != "nothing said":
            np.testing.assert_array_equal(books[0][-1], 0.0)  # bytes


# Where everything leaves in full: other modes coarsen it, and add noise.
@pytest.mark.parametrize("name", ROUNDS)
def test_equal_insights_come_back(name):
    for seed in SEEDS:
        args = ROUNDS[name].make(P, seed)
        one = jax.tree.map(lambda x: np.repeat(x[:1], P, axis=0), args[0])
        full = np.ones_like(one.insight.valid)
        insight = one.insight._replace(valid=full, timestamp=900.0 * full)
        sent = one._replace(insight=insight)
        ring = topology.adjacency("ring", P)
        own = LocalSummary(*sent[:3])
        guidance, *_ = outcome(ROUNDS[name], (sent, own, ring, *args[3:]))
        assert_close(guidance.entropy, insight.entropy)
        assert_close(guidance.trend, sent.trend)
        if name != "round: none":  # where values are not shared
            assert (guidance.value_weight > 0.0).all()
            assert_close(guidance.value, insight.state_value)


# It is stopped in one place, for all that a round is made of.
@pytest.mark.parametrize(
    "name",
    [
        *("round: precision", "round: scalar", "round: geometric_median"),
        *("listen: consortium", "listen: public", "listen: dissensus"),
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
        told = compiled(KINDS[name], P)(*jax.tree.unflatten(structure, given))[:3]
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(told))

    gradient = jax.jit(jax.grad(total))
    for leaf in gradient([leaves[n] for n in floats]):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.parametrize("name", ["round: precision", "listen: faults"])
def test_rounds_can_be_scanned(name):
    """Trust is carried from round to round, as in a loop."""
    kind = KINDS[name]
    args = kind.make(P, 1)
    place = kind.takes.index("T")

    def given(trust, now):
        filled = replaced(args, place, trust)
        if name in LISTENS:
            return replaced(filled, len(args) - 1, now)
        return replaced(filled, 5, Clock(now, NOW))

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
def test_what_is_said_and_heard_can_be_scanned(name):
    """Peers write, publish with delays and listen: shapes stay; traced alone."""
    config = settings(exchange={"mode": name}, faults={"delay": 2})
    mode = mode_of(config)
    network = make_network(config, A, BASE, mode)
    args = LISTENS[f"listen: {name}"].make(P, 0)
    known, _, _, listeners, presence, _, _, edges, opinion, seed, rules, clock = args
    send_conditions = SendConditions(*np.ones(4, np.float32), allowed=np.int32(9))

    def write(one):
        return mode.outbound(one, jax.random.key(0), clock // 4, NOW)

    def make_message(outbox, one):
        how = rules.synchronisation, config.faults, clock // 4, clock
        return publish(outbox, write(one), one.message, send_conditions, *how)

    def one_round(carry, _):
        outboxes, trust = carry
        outboxes, wire, sending = jax.vmap(make_message)(outboxes, known)
        hears = listeners._replace(adjacency=edges, trust=trust, sending=sending)
        round_info = RoundInfo(presence, (), presence, clock)
        said = Broadcast(wire, sending)
        guidance, trust, _ = network.listen(said, hears, rules, seed, round_info)
        return (outboxes, trust), guidance

    first = jax.tree.map(lambda leaf: leaf[0], known)
    outbox = empty_outbox(jax.eval_shape(write, first), K, 1, 2)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (P, *x.shape)), outbox), opinion
    end, heard = jax.eval_shape(lambda: jax.lax.scan(one_round, start, None, 3))
    assert jax.tree.map(jnp.shape, end) == jax.tree.map(jnp.shape, start)
    assert heard.value.shape == (3, P, K)


# Sizes that no two axes share, so that a shape says what its axes are.
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
    exchange = make_exchange("precision", "prior", A, BASE, aggregator, TOLERATED)

    def from_the_wire(wire, *rest):
        return exchange(mode.bound(mode.inbound(wire)), *rest)

    own = LocalSummary(*received(rng, PEERS, CELLS)[:3])
    edges, opinion = topology.adjacency("complete", PEERS), opinions(rng, PEERS)
    steps = np.zeros(PEERS, np.float32)
    rest = edges, opinion, make_hyper(TrainConfig()), Clock(CLOCK, NOW), steps
    return list(shapes_of(jax.make_jaxpr(from_the_wire)(own, own, *rest).jaxpr))


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
