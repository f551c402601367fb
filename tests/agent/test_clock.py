"""A clock that is wrong for a moment, or was wrong for long."""

import asyncio
import logging

import pytest

from p2p_sac_jax.agent.ops.clock import CONFIRM_S, SteadyClock
from p2p_sac_jax.agent.protocol.sequence_set import make_digests
from p2p_sac_jax.agent.transport.in_process import InProcessTransport
from tests.helpers.hub_peers import FIELDS, KIND, Recorder, hub_of, peer, run


class Clocks:
    """A system's two clocks, which a test moves."""

    def __init__(self):
        self.wall_s, self.monotonic_s = 1.7e9, 100.0
        self.steady = SteadyClock(lambda: self.wall_s, lambda: self.monotonic_s)

    def advance(self, seconds, steps=1):
        for _ in range(steps):
            self.wall_s += seconds / steps
            self.monotonic_s += seconds / steps
            now_s = self.steady()
        return now_s


@pytest.mark.parametrize("by_s", [300.0, -300.0, 3e9])
def test_a_jump_of_a_moment_does_not_count(by_s, caplog):
    clocks = Clocks()
    assert clocks.advance(5.0) == pytest.approx(1.7e9 + 5)
    clocks.wall_s += by_s
    assert clocks.advance(2.0, steps=10) == pytest.approx(1.7e9 + 7)
    clocks.wall_s -= by_s
    assert clocks.advance(60.0, steps=10) == pytest.approx(1.7e9 + 67)
    assert [r.getMessage() for r in caplog.records] == ["clock has jumped"]
    assert caplog.records[0].data["by_s"] == by_s


@pytest.mark.parametrize("by_s", [300.0, -300.0])
def test_a_jump_that_lasts_counts(by_s, caplog):
    clocks = Clocks()
    clocks.wall_s += by_s
    clocks.steady()
    assert clocks.advance(CONFIRM_S - 1, steps=9) == pytest.approx(1.7e9 + 29)
    assert clocks.advance(2.0) == pytest.approx(1.7e9 + 31 + by_s)
    assert caplog.records[-1].getMessage() == "clock is set to where it jumped"
    assert caplog.records[-1].levelno == logging.WARNING


def test_slow_corrections_are_followed():
    clocks = Clocks()
    for _ in range(100):
        clocks.wall_s += 0.9
        clocks.advance(1.0)
    assert clocks.steady() == pytest.approx(1.7e9 + 190)


@pytest.mark.parametrize("restart", [True, False])
@run
async def test_peers_that_were_both_ahead_receive_each_other_again(tmp_path, restart):
    hub, ahead_s = hub_of(2), [1000.0]
    options = {
        name: {
            "recorder": Recorder(),
            "folder": tmp_path / name,
            "clock": lambda: hub.now_s() + ahead_s[0],
        }
        for name in hub.roster.keys
    }
    networks = {name: await peer(hub, name, **options[name]) for name in options}
    for round_index in range(3):
        for network in networks.values():
            await network.broadcast(KIND, FIELDS)
        for network in networks.values():
            await network.sync()
        counts = [len(options[name]["recorder"].received) for name in options]
        assert counts == [round_index + 1] * 2
        ahead_s[0] = 0.0
        if restart and round_index == 0:
            for name in options:
                await networks[name].disconnect()
                networks[name] = await peer(hub, name, **options[name])
        hub.advance(900.0 * round_index)  # the time they once had comes
    for name, network in networks.items():
        assert options[name]["recorder"].keys().most_common(1)[0][1] == 1
        await network.disconnect()


@run
async def test_a_refused_sender_reads_it_in_its_log(caplog):
    hub = hub_of(2)
    early = await peer(hub, "peer0", clock=lambda: hub.now_s() + 100.0)
    network = await peer(hub, "peer1")
    for _ in range(5):
        await early.broadcast(KIND, FIELDS)
        await network.sync()
    lines = [r for r in caplog.records if "refused by a peer" in r.getMessage()]
    assert [r.data for r in lines] == [{"peer": "peer1", "refused": {"future": 2}}]
    assert network.status().counters.refused.keys() == {"future"}


@run
async def test_questions_are_not_amplified_without_end():
    """The whole log once; after that, whatever is asked, a share of it a second."""
    hub = hub_of(2)
    sender = await peer(hub, "peer0", log_bytes=60_000)
    for _ in range(100):
        await sender.broadcast(KIND, FIELDS)
    asker = InProcessTransport(hub, "peer1")
    await asker.open(lambda *_: None, lambda *_: [])
    (digest,) = make_digests(hub.roster, ["peer0"], {})
    hub_bytes = []
    for _ in range(60):
        replies = await asker.query("peer0", digest, 1.0)
        hub_bytes.append(sum(map(len, replies)))
        hub.advance(1.0)
        await asyncio.sleep(0)
    assert hub_bytes[0] > 10_000
    assert sum(hub_bytes) <= 60_000 + 60 * 60_000 / 600
