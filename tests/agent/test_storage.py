"""State on disk: whole after any kill, and enough to go on as if nothing happened."""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from p2p_sac_jax.agent.ops.state_file import load_state, save_state, write_json
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.config import ConfigError
from tests.helpers.agents import NAMES, Store, agent_config, live, make_agent, networks
from tests.helpers.populations import assert_identical, plain
from tests.helpers.state_writer import arrays

pytestmark = pytest.mark.slow
WRITER = Path(__file__).parents[1] / "helpers" / "state_writer.py"


def start_writer(folder):
    return subprocess.Popen(
        [sys.executable, WRITER, folder],
        env=os.environ | {"PYTHONPATH": str(WRITER.parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill_while_saving(folder, times):
    """Kills processes that save, one after the other; the folder always loads."""
    rng, number = np.random.default_rng(0), 0
    for _ in range(times):
        writer = start_writer(folder)
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == f"{number}\n"
        time.sleep(rng.uniform(0.0, 0.5))
        writer.kill()
        told = [number, *map(int, writer.communicate()[0].split())][-1]
        saved = load_state(folder, arrays(0))
        found = int(saved["number"])
        # What was said to be saved is there; at most the next one is, too.
        assert found in (told, told + 1)
        for name, array in arrays(found).items():
            np.testing.assert_array_equal(saved[name], array)
        number = found + 1
    # The last two, and what the last kill left.
    assert len(list((folder / "states").iterdir())) <= 5


def test_a_kill_leaves_the_last_state_whole(tmp_path):
    kill_while_saving(tmp_path, times=2)


@pytest.mark.evidence
def test_a_hundred_kills_leave_the_last_state_whole(tmp_path):
    kill_while_saving(tmp_path, times=100)


def test_the_last_two_are_kept_and_the_older_stands_in_for_a_damaged_one(
    tmp_path, caplog
):
    for number in range(4):
        assert save_state(tmp_path, arrays(number)) == number
    states = tmp_path / "states"
    assert sorted(path.name for path in states.iterdir()) == ["00000002", "00000003"]
    assert int(load_state(tmp_path, arrays(0))["number"]) == 3
    largest = max(
        (states / "00000003").rglob("*"), key=lambda path: path.stat().st_size
    )
    whole = largest.read_bytes()
    largest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit is enough
    assert caplog.messages == []
    assert int(load_state(tmp_path, arrays(0))["number"]) == 2
    assert caplog.messages == ["state 3 is damaged: an older one has to do"]
    shutil.rmtree(states / "00000003")
    shutil.rmtree(states / "00000002" / "d")
    with pytest.raises(ConfigError, match="of this agent"):
        load_state(tmp_path, arrays(0))


def test_what_is_not_there_or_not_fitting_gets_one_line(tmp_path):
    with pytest.raises(ConfigError, match="must hold the state of any agent"):
        load_state(tmp_path / "nothing", arrays(0))
    save_state(tmp_path, arrays(0))
    for wanted in (
        {"another": np.zeros(2)},
        arrays(0) | {"part.1": np.zeros((9, 9), np.float32)},
    ):
        with pytest.raises(ConfigError, match="of this agent, as it is configured"):
            load_state(tmp_path, wanted)


def test_a_small_file_is_whole(tmp_path):
    for content in ({"round": 1}, {"round": 2}):
        write_json(tmp_path / "deep" / "file.json", content)
        assert json.loads((tmp_path / "deep" / "file.json").read_text()) == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]


def test_state_is_its_owners_alone(tmp_path):
    (tmp_path / "told.json.tmp").touch(mode=0o644)  # of a kill long ago
    write_json(tmp_path / "told.json", {})
    assert (tmp_path / "told.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "states").mkdir(mode=0o755)
    save_state(tmp_path, {"number": np.array(1)})
    assert (tmp_path / "states").stat().st_mode & 0o777 == 0o700


def test_an_agent_goes_on_where_the_disk_takes_nothing(tmp_path):
    """Files that may not grow; what was saved before stands, and what comes after."""
    config = agent_config()

    async def example():
        agent = make_agent(config, in_process_network(Hub(NAMES), NAMES[0]))
        store = Store(config, 0)
        agent.save(tmp_path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        await live(agent, store)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(OSError, match=r".+"):
                agent.save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        for clock in (0, 2):
            again = make_agent(config, in_process_network(Hub(NAMES), NAMES[0]))
            again.load(tmp_path)
            assert again.clock == clock
            await live(agent, store)
            agent.save(tmp_path)

    asyncio.run(example())


@pytest.mark.parametrize(
    "roster",
    [
        ("apple", *NAMES),  # in front of all, whose numbers shift
        NAMES[:2],
        (NAMES[0], "apple", NAMES[2]),
        (NAMES[2], NAMES[0], NAMES[1]),
    ],
    ids=["added", "removed", "replaced", "in another order"],
)
def test_peers_are_known_again_by_name(roster, tmp_path):
    config = agent_config()

    async def example():
        opened = await networks(Hub(NAMES))
        agent = make_agent(config, opened[0])
        others = [make_agent(config, opened[number]) for number in (1, 2)]
        for week in range(4):  # all hear each other, and come to opinions
            for number, one in enumerate((agent, *others)):
                await live(one, Store(config, number, seed=week))
        agent.save(tmp_path)
        network = in_process_network(Hub(roster), NAMES[0])
        resumed = make_agent(config, network, peer_id=0)
        resumed.load(tmp_path)
        before, after = agent._saved(), resumed._saved()
        trust, was = (
            after.agent_state.peer.trust * len(roster),
            before.agent_state.peer.trust * 3,
        )
        assert np.ptp(was) > 1e-3
        assert before.heard["stamps"][1:].min() > 0
        for row, name in enumerate(roster):
            if name not in NAMES:
                assert trust[row] == pytest.approx(1.0)
                assert (after.heard["stamps"][row] == -1).all()
                assert not any(held[row].any() for held in after.heard["held"].values())
                continue
            old = NAMES.index(name)
            assert trust[row] == pytest.approx(float(was[old]))
            np.testing.assert_array_equal(
                after.heard["stamps"][row], before.heard["stamps"][old]
            )
            for key, held in after.heard["held"].items():
                np.testing.assert_array_equal(held[row], before.heard["held"][key][old])
        # All that is its own is as it was.
        assert_identical(
            plain(
                before.agent_state._replace(
                    peer=before.agent_state.peer._replace(trust=())
                )
            ),
            plain(
                after.agent_state._replace(
                    peer=after.agent_state.peer._replace(trust=())
                )
            ),
        )
        await resumed.select_action(Store(config, 0).obs)
        assert resumed.informed

    asyncio.run(example())


def test_a_resumed_agent_goes_on_as_one_that_was_not_interrupted(tmp_path):
    """Saved in the middle of a round, between an action and what came of it."""
    config = agent_config()

    async def example():
        hub = Hub(NAMES)
        opened = await networks(hub)
        other = make_agent(config, opened[1])
        agent, store = make_agent(config, opened[0]), Store(config, 0)
        await live(other, Store(config, 1), 2)  # heard, and part of the state
        await live(agent, store, 3)
        action = await agent.select_action(store.obs)
        agent.save(tmp_path)
        again = in_process_network(hub, NAMES[0])
        resumed = make_agent(config, again, seed=7)
        resumed.load(tmp_path)
        assert resumed.clock == 3
        twin = Store(config, 0)
        twin._state, twin._clock, twin.obs = store._state, store._clock, store.obs
        ends = []
        for one, market in ((agent, store), (resumed, twin)):
            week = market.step(action)
            one.observe(action, week.reward, week.obs, log_sales=week.log_sales)
            await one.train()
            actions = [action for action, _ in await live(one, market, 3)]
            held = one.price_memory.latest_messages.content
            ends.append((plain(one._state), held, one._progress, actions))
        assert_identical(*ends)
        assert float(ends[0][0].guidance.has_prior) == 1.0

    asyncio.run(example())


def test_noise_and_budget_are_never_used_twice(tmp_path):
    """A crash takes the agent back to an older state; what was told stays told."""
    config = agent_config("consortium")

    async def example():
        opened = await networks(Hub(NAMES, "consortium"))
        agent = make_agent(config, opened[0], folder=tmp_path)
        store = Store(config, 0)
        agent.save()
        lived = await live(agent, store, 4)
        assert [report["shared"] for _, report in lived] == [0, 1, 0, 1]
        told = json.loads((tmp_path / "releases.json").read_text())
        assert told == {"round": 2, "releases": 2}
        crashed = make_agent(config, opened[0], folder=tmp_path)
        crashed.load()
        assert crashed.clock == 0
        assert int(crashed._state.peer.outbox.releases) == 2
        lived = await live(crashed, Store(config, 0, seed=5), 6)
        # Rounds 1 and 2 were used before the crash, with other data.
        assert [report["shared"] for _, report in lived] == [0, 0, 0, 0, 0, 1]
        assert int(crashed._state.peer.outbox.releases) == 3

    asyncio.run(example())


def test_a_journal_that_cannot_be_written_keeps_the_message_at_home(tmp_path):
    config = agent_config("consortium")

    async def example():
        network = in_process_network(Hub(NAMES, "consortium"), NAMES[0])
        agent = make_agent(config, network, folder=tmp_path / "agent")
        (tmp_path / "agent").write_text("a file where the folder should be")
        lived = await live(agent, Store(config, 0), 2)
        assert [report["shared"] for _, report in lived] == [0, 0]
        assert agent.network_errors == 1
        assert network.status().counters.kept == 0

    asyncio.run(example())


def test_a_journal_that_cannot_be_read_stops_the_agent(tmp_path):
    config = agent_config("consortium")
    network = in_process_network(Hub(NAMES, "consortium"), NAMES[0])
    for content in ("{}", "[]", "not json"):
        (tmp_path / "releases.json").write_text(content)
        with pytest.raises(ConfigError, match=r"releases\.json"):
            make_agent(config, network, folder=tmp_path)
