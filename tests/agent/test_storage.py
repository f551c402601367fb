"""State on disk: complete after any kill, and enough to continue bit for bit."""

import asyncio
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from p2p_sac_jax.agent.ops.release_log import ReleaseLog
from p2p_sac_jax.agent.ops.state_file import load_state, save_state, write_durable
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.files import load_json
from p2p_sac_jax.privacy.accountant import PrivacyAccountant
from tests.helpers.agents import (
    NAMES,
    Store,
    agent_config,
    make_agent,
    networks,
    run_weeks,
)
from tests.helpers.hub_peers import run
from tests.helpers.populations import assert_identical, plain
from tests.helpers.state_writer import arrays

pytestmark = pytest.mark.slow
CONFIG, CONSORTIUM = agent_config(), agent_config("consortium")
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
        time.sleep(rng.uniform(0.0, 0.1))
        writer.kill()
        reported = [number, *map(int, writer.communicate()[0].split())][-1]
        saved = load_state(folder, arrays(0))
        found = int(saved["number"])
        # The last reported state is there, or the one that was being saved.
        assert found in (reported, reported + 1)
        for name, array in arrays(found).items():
            np.testing.assert_array_equal(saved[name], array)
        number = found + 1
    # The last two, and an unfinished file of the last kill.
    assert len(list(folder.iterdir())) <= 4
    return number


def test_a_kill_leaves_the_last_state_complete(tmp_path):
    kill_while_saving(tmp_path, times=2)


@pytest.mark.evidence
def test_a_hundred_kills_leave_the_last_state_complete(tmp_path):
    saved = kill_while_saving(tmp_path, times=100)
    print(f"{saved} states saved")  # noqa: T201


def flip_a_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def flip_a_bit_of_the_header(content):
    return content.replace(b"part.1", b"part.0", 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "it is damaged"),
        (flip_a_bit_of_the_header, ""),
        (lambda content: content[: len(content) // 2], ""),
        (lambda content: b"", ""),
        (lambda content: b"not a state", ""),
        (lambda content: safetensors.numpy.save(arrays(3)), "it is damaged"),
        (lambda content: content.replace(b"sha256", b"sha255"), "it is damaged"),
    ],
    ids=["bit", "header", "torn", "empty", "foreign", "no digest", "metadata"],
)
def test_an_older_state_replaces_a_damaged_one(damage, reason, tmp_path, caplog):
    for number in range(4):
        assert save_state(tmp_path, arrays(number)) == number
    files = [tmp_path / f"0000000{number}.safetensors" for number in (2, 3)]
    assert sorted(tmp_path.iterdir()) == files
    assert int(load_state(tmp_path, arrays(0))["number"]) == 3
    assert caplog.messages == []
    files[1].write_bytes(damage(files[1].read_bytes()))
    assert int(load_state(tmp_path, arrays(0))["number"]) == 2
    (line,) = caplog.records
    assert line.getMessage() == "state not used"
    assert line.data["state"] == 3
    assert line.data["reason"].startswith(reason)
    assert "\n" not in line.data["reason"]
    files[0].unlink()
    with pytest.raises(ConfigError, match=r"must hold a state of this agent") as error:
        load_state(tmp_path, arrays(0))
    assert "\n" not in str(error.value)


def test_a_state_of_other_arrays_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="must hold a state of an agent"):
        load_state(tmp_path / "nothing", arrays(0))
    save_state(tmp_path, arrays(0))
    for expected in (
        {"another": np.zeros(2)},
        arrays(0) | {"part.1": np.zeros((9, 9), np.float32)},
        arrays(0) | {"part.1": np.zeros((2, 1033), np.int32)},
    ):
        with pytest.raises(ConfigError, match="of this agent, as it is configured"):
            load_state(tmp_path, expected)


def test_every_type_and_shape_of_an_agents_arrays_is_kept(tmp_path):
    saved = {
        "scalar": np.array(7, np.int32),
        "flag": np.array(True),
        "empty": np.zeros((0, 3), np.float32),
        "key": np.array([1, 2**32 - 1], np.uint32),
        "stamps": np.full((2, 2, 2), -1, np.int64),
        "names": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    save_state(tmp_path, saved)
    found = load_state(tmp_path, saved)
    for name, array in saved.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_files_are_whole_and_private(tmp_path):
    folder = tmp_path / "deep"
    for content in (b"1", b"2"):
        write_durable(folder / "file", content)
        assert (folder / "file").read_bytes() == content
        (folder / "unfinished.tmp").touch(mode=0o644)  # left by a kill
    save_state(folder, {"number": np.array(1)})
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000000.safetensors",
        "file",
    ]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


@pytest.mark.thorough
@run
async def test_an_agent_continues_when_the_disk_fails(tmp_path):
    """Files that may not grow; states saved before and after remain usable."""
    agent = make_agent(CONFIG, in_process_network(Hub(NAMES), NAMES[0]))
    store = Store(CONFIG, 0)
    agent.save(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    await run_weeks(agent, store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r".+"):
            agent.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for clock in (0, 2):
        again = make_agent(CONFIG, in_process_network(Hub(NAMES), NAMES[0]))
        again.load(tmp_path)
        assert again.clock == clock
        await run_weeks(agent, store)
        agent.save(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder and state of an agent after four weeks with two others."""
    folder = tmp_path_factory.mktemp("state")

    async def run():
        agents = [make_agent(CONFIG, network) for network in await networks(Hub(NAMES))]
        for week in range(4):  # all exchange, and trust changes
            for number, agent in enumerate(agents):
                await run_weeks(agent, Store(CONFIG, number, seed=week))
        agents[0].save(folder)
        return agents[0]._saved()

    return folder, asyncio.run(run())


@pytest.mark.parametrize(
    "roster",
    [
        ("apple", *NAMES),  # first, so that all numbers shift
        pytest.param(NAMES[:2], marks=pytest.mark.thorough),
        (NAMES[0], "apple", NAMES[2]),
        (NAMES[2], NAMES[0], NAMES[1]),
    ],
    ids=["added", "removed", "replaced", "in another order"],
)
def test_peers_are_matched_by_name(roster, saved):
    folder, before = saved
    resumed = make_agent(CONFIG, in_process_network(Hub(roster), NAMES[0]), peer_id=0)
    resumed.load(folder)
    after = resumed._saved()
    trust = after.agent_state.peer.trust * len(roster)
    old_trust = before.agent_state.peer.trust * len(NAMES)
    assert np.ptp(old_trust) > 1e-3
    assert before.messages["stamps"][1:].min() > 0
    for row, name in enumerate(roster):
        if name not in NAMES:
            assert trust[row] == pytest.approx(1.0)
            assert (after.messages["stamps"][row] == -1).all()
            assert not any(
                leaf[row].any()
                for key, leaf in after.messages.items()
                if key != "stamps"
            )
            continue
        old = NAMES.index(name)
        assert trust[row] == pytest.approx(float(old_trust[old]))
        for key, leaf in after.messages.items():
            np.testing.assert_array_equal(leaf[row], before.messages[key][old])
    # The agent's own state is unchanged.
    assert_identical(
        *(
            plain(state._replace(peer=state.peer._replace(trust=())))
            for state in (before.agent_state, after.agent_state)
        )
    )
    asyncio.run(resumed.select_action(Store(CONFIG, 0).obs))
    assert resumed.informed


@run
async def test_a_resumed_agent_equals_one_without_interruption(tmp_path):
    """Saved in the middle of a round, between an action and its observation."""
    hub = Hub(NAMES)
    opened = await networks(hub)
    other = make_agent(CONFIG, opened[1])
    agent, store = make_agent(CONFIG, opened[0]), Store(CONFIG, 0)
    await run_weeks(other, Store(CONFIG, 1), 2)  # received, and part of the state
    await run_weeks(agent, store, 3)
    action = await agent.select_action(store.obs)
    agent.save(tmp_path)
    again = in_process_network(hub, NAMES[0])
    resumed = make_agent(CONFIG, again, seed=7)
    resumed.load(tmp_path)
    assert resumed.clock == 3
    twin = Store(CONFIG, 0)
    twin._state, twin._clock, twin.obs = store._state, store._clock, store.obs
    ends = []
    for one, market in ((agent, store), (resumed, twin)):
        week = market.step(action)
        one.observe(action, week.reward, week.obs, log_sales=week.log_sales)
        await one.train()
        actions = [action for action, _ in await run_weeks(one, market, 3)]
        held = one.price_memory.latest_messages.content
        ends.append((plain(one._state), held, one._progress, actions))
    assert_identical(*ends)
    assert float(ends[0][0].guidance.has_prior) == 1.0


@run
async def test_noise_and_budget_are_never_used_twice(tmp_path):
    """A crash takes the agent back to an older state, but not the release log."""
    opened = await networks(Hub(NAMES, "consortium"))
    agent = make_agent(CONSORTIUM, opened[0], folder=tmp_path)
    store = Store(CONSORTIUM, 0)
    agent.save()
    results = await run_weeks(agent, store, 4)
    assert [report["shared"] for _, report in results] == [0, 1, 0, 1]
    used = load_json(tmp_path / "releases.json")
    assert (used["round"], used["releases"]) == (2, 2)
    assert stat.S_IMODE((tmp_path / "releases.json").stat().st_mode) == 0o600
    crashed = make_agent(CONSORTIUM, opened[0], folder=tmp_path)
    crashed.load()
    assert crashed.clock == 0
    assert int(crashed._state.peer.send_state.releases) == 2
    results = await run_weeks(crashed, Store(CONSORTIUM, 0, seed=5), 6)
    # Rounds 1 and 2 were used before the crash, with other data.
    assert [report["shared"] for _, report in results] == [0, 0, 0, 0, 0, 1]
    assert int(crashed._state.peer.send_state.releases) == 3


@run
async def test_an_unwritable_release_log_withholds_the_message(tmp_path):
    network = in_process_network(Hub(NAMES, "consortium"), NAMES[0])
    agent = make_agent(CONSORTIUM, network, folder=tmp_path / "agent")
    (tmp_path / "agent").write_text("a file where the folder should be")
    results = await run_weeks(agent, Store(CONSORTIUM, 0), 2)
    assert [report["shared"] for _, report in results] == [0, 0]
    assert agent.connection.errors == 1
    assert network.status().counters.kept == 0


def release_log(folder, **changes):
    config = replace_fields(CONSORTIUM, changes)
    return ReleaseLog(config, PrivacyAccountant({}), folder, connected=True)


def test_a_stream_of_noise_goes_on_with_the_settings_of_its_start(tmp_path):
    """Draws of earlier messages are in later ones, times what the settings say."""
    release_log(tmp_path).record(3, 4)
    release_log(tmp_path, **{"exchange.network_weight": 0.1})
    for changes in (
        {"steps": 2 * CONSORTIUM.steps},
        {"privacy.demand_noise": 3.0},
        {"privacy.release": "independent"},
    ):
        with pytest.raises(ConfigError, match="earlier messages were noised with"):
            release_log(tmp_path, **changes)
    path = tmp_path / "releases.json"
    path.write_text(path.read_text().replace('"round": 3', '"round": 2'))
    with pytest.raises(ConfigError, match="is damaged"):
        release_log(tmp_path)


def test_an_unreadable_release_log_is_refused(tmp_path):
    network = in_process_network(Hub(NAMES, "consortium"), NAMES[0])
    for content in ("{}", "[]", "not json"):
        (tmp_path / "releases.json").write_text(content)
        with pytest.raises(ConfigError, match=r"releases\.json"):
            make_agent(CONSORTIUM, network, folder=tmp_path)
