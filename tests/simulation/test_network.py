"""The network inside a population: faults, modes, budgets, attacks, end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax import train
from p2p_sac_jax.files import load_json
from tests.helpers.populations import (
    assert_identical,
    peer_of,
    run,
    small_config,
    small_run,
)

pytestmark = pytest.mark.slow
NETWORK = 2
ROUNDS_A_CHUNK = 2
# A quarter is away in the second chunk, and the network split in the third.
CHURN = {"churn": 0.25, "leave_step": 4, "rejoin_step": 8}
SPLIT = {"partition_step": 8, "heal_step": 12}


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert np.isfinite(leaf).all()


def with_edges(setup, keep):
    """The setup with the edges [P, P] that ``keep`` selects."""
    edges = np.asarray(setup.peer_inputs.adjacency) * keep[:, None]
    peer_inputs = setup.peer_inputs._replace(
        adjacency=jnp.asarray(edges),
        connected=jnp.asarray((edges > 0).any(axis=0).T.astype(np.float32)),
    )
    return setup._replace(peer_inputs=peer_inputs)


def run_with_edges(keeps):
    """A network without faults but with other edges in each chunk: states after."""
    sound = small_run()
    states, state = (
        [],
        sound.programs.init(sound.setup.peer_inputs, sound.setup.run_inputs),
    )
    for chunk, keep in enumerate(keeps):
        setup = with_edges(sound.setup, keep)
        clock = jnp.asarray(4 * chunk, jnp.int32)
        state, _ = sound.programs.run_chunk(
            state, setup.peer_inputs, setup.run_inputs, clock
        )
        states.append(state)
    return states


@pytest.mark.thorough
def test_a_peer_that_is_cut_off_learns_as_with_an_empty_adjacency():
    """The faulty run equals, bit for bit, one whose edges are cut by hand."""
    longer = {"root": {"steps": 16}, "sac": {"replay_capacity": 12}}
    faulty = run(small_config(**longer, faults=CHURN | SPLIT))
    plan = faulty.setup.peer_inputs.participation.plan
    away = np.asarray(plan.leaves) == 4
    assert away.sum() == 1
    side = np.asarray(plan.side)
    assert side.sum() == 2
    whole = np.ones((4, 4), np.float32)
    without = np.outer(~away, ~away).astype(np.float32)
    halves = (side[:, None] == side[None]).astype(np.float32)

    by_hand = run_with_edges([whole, without, halves, whole])
    assert_identical(without_sending(faulty.state), without_sending(by_hand[-1]))
    alone = run_with_edges([whole, 0.0 * whole])
    gone = int(np.flatnonzero(away)[0])
    lonely, cut = peer_of(alone[1], gone), peer_of(by_hand[1], gone)
    assert_identical(without_sending(lonely), without_sending(cut))

    for chunk, keep in ((1, without), (2, halves)):
        reported = faulty.metrics[chunk].exchange.coverage
        reached = np.asarray(reported)[:, :, NETWORK] > 0
        assert reached[:, keep.any(axis=1)].any()
        if chunk == 1:
            assert not reached[:, gone].any()


def without_sending(state):
    """Without what was sent, which differs where no peer could receive it."""
    return state._replace(send_state=None, channel=None)


@pytest.mark.thorough
def test_a_network_in_which_everything_goes_wrong_at_once():
    """Loss, delay, a partition, and a quarter away, in mode public: no NaN."""
    faults = {
        "loss": 0.3,
        "delay": 5,
        "churn": 0.25,
        "leave_step": 6,
        "rejoin_step": 26,
        "partition_step": 8,
        "heal_step": 28,
    }
    root = {"steps": 40, "evaluate_every": 4, "evaluation_weeks": 8}
    outcome = run(
        small_config(
            root=root,
            faults=faults,
            exchange={"mode": "public"},
            privacy={"min_peers": 2, "min_weeks": 4},
        )
    )
    assert_finite(outcome.state)
    reports = [chunk.exchange for chunk in outcome.metrics]
    assert_finite([chunk.peer.score for chunk in outcome.metrics])
    informed = np.concatenate([np.asarray(r.has_prior)[:, :, NETWORK] for r in reports])
    assert informed[-1].any()  # after it has healed the network is back
    coverage = np.concatenate([np.asarray(r.coverage)[:, :, NETWORK] for r in reports])
    assert not coverage[:5].any()  # nothing arrives before the delay has passed
    assert coverage[5:].any()
    weights = [np.asarray(chunk.peer.value_weight) for chunk in outcome.metrics]
    assert not np.any(weights)  # in public, values never reach a target


@pytest.fixture(scope="module")
def guarded():
    """Consortium: a budget of three messages, an attack, trust and trimmed means."""
    config = small_config(
        root={"steps": 16},
        exchange={"mode": "consortium", "aggregator": "trimmed_mean"},
        weights={"trust_rate": 0.3, "max_share": 0.5},
        privacy={"min_weeks": 2, "min_count": 1},
        attack={"kind": "sign_flip", "byzantine": 1},
    )
    setup = run(config, chunks=0).setup
    short = setup.run_inputs._replace(
        allowed=jnp.full_like(setup.run_inputs.allowed, 3)
    )
    return run(config, setup=setup._replace(run_inputs=short))


def test_a_peer_out_of_budget_stops_sharing(guarded):
    sent = np.concatenate(
        [np.asarray(chunk.traffic.sent)[:, :, NETWORK] for chunk in guarded.metrics]
    )  # [rounds, P]
    assert (sent.sum(axis=0) == 3).all()
    assert not sent[-3:].any()
    assert (np.asarray(guarded.state.send_state.releases)[:, NETWORK] == 3).all()
    received = np.concatenate(
        [np.asarray(c.traffic.bytes_received)[:, :, NETWORK] for c in guarded.metrics]
    )
    np.testing.assert_array_equal(received > 0, sent > 0)


@pytest.mark.thorough
def test_the_log_names_whose_budget_is_spent(tmp_path, capfd):
    """From the configured epsilon to the line in the log, and once only."""
    config = small_config(
        root={"steps": 16, "arms": "network", "layout": "vmap", "devices": 1},
        exchange={"mode": "consortium"},
        privacy={"epsilon": 12.0, "min_weeks": 2},
    )
    summary = train(config, tmp_path / "run")
    assert 0 < summary["privacy_epsilon"] <= 12.0
    lines = [line for line in capfd.readouterr().err.splitlines() if "no more" in line]
    assert len(lines) == config.population.peers
    assert all("epsilon 12 in 2 messages and sends no more" in line for line in lines)
    assert load_json(tmp_path / "run" / "run.json")["privacy"]["messages_allowed"] == 2


def test_isolated_arms_spend_nothing(guarded):
    assert not np.asarray(guarded.state.send_state.releases)[:, :NETWORK].any()


def test_trust_moves_and_all_is_finite(guarded):
    assert_finite(guarded.state)
    trust = np.asarray(guarded.state.trust)[:, NETWORK]
    np.testing.assert_allclose(trust.sum(axis=1), 1.0, rtol=1e-5)
    assert np.abs(trust - 0.25).max() > 1e-3
