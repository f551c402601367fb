"""The receipt log: recorded messages stay recorded after any end of the process."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.agent.protocol import receipt_log as module
from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog
from p2p_sac_jax.config import ConfigError
from tests.helpers.damage import damaged

# Records as fast as possible, for three senders, and prints each message after it.
WRITER = """
import itertools, os, sys
from pathlib import Path
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog

log = ReceiptLog(Path(sys.argv[1]), max_lines=150, clock=lambda: 0.001)
epoch = log.start("bob")
for number in itertools.count(1):
    sender = ("ada", "cyd")[number % 2]
    log.append(sender, epoch, 3 * number)
    os.write(1, f"{sender} {epoch} {3 * number}\\n".encode())
"""


def state(receipt_log):
    return {
        sender: (received.epoch, list(received.ranges()))
        for sender, received in receipt_log.received.items()
    }


def reopened(folder, **options):
    receipt_log = ReceiptLog(folder, **options)
    receipt_log.close()
    return receipt_log


def test_a_killed_process_has_recorded_everything_it_took(tmp_path):
    epochs = []
    for kill_after in (1, 400, 1111):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(kill_after)]
            with pytest.raises(ConfigError, match=r"is in use by process \d+"):
                ReceiptLog(tmp_path)
            os.kill(writer.pid, signal.SIGKILL)
            lines += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        assert len(lines) >= kill_after
        received = reopened(tmp_path).received
        for line in lines:
            sender, epoch, sequence = line.decode().split()
            assert received[sender].epoch == int(epoch)
            assert int(sequence) in received[sender]
        epochs.append(received["bob"].epoch)
    assert epochs == [1, 2, 3]  # larger at every start, though the clock stands still


events = st.lists(
    st.tuples(st.sampled_from(["ada", "cyd"]), st.integers(1, 3), st.integers(1, 30)),
    max_size=60,
)


@settings(deadline=None, max_examples=25)
@given(events, st.integers(1, 4), st.integers(3, 30))
def test_a_reopened_log_is_the_same(tmp_path_factory, taken, most, long):
    folder = tmp_path_factory.mktemp("peer")
    receipt_log = ReceiptLog(folder, most, long)
    for event in taken:
        receipt_log.append(*event)
    before = state(receipt_log)
    receipt_log.close()
    again = ReceiptLog(folder, most, long)
    assert state(again) == before
    again.close()


def test_the_file_stays_short_and_private(tmp_path):
    receipt_log = ReceiptLog(tmp_path / "peer", max_lines=100)
    for sequence in range(1, 2001):
        receipt_log.append("ada", 1, sequence)
        size = (tmp_path / "peer" / "receipt_log").stat().st_size
        assert size < 102 * len(f"received ada 1 2000 2000 {'0' * 16}\n")
    receipt_log.close()
    for path in (tmp_path / "peer").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "peer").stat().st_mode & 0o077 == 0
    assert reopened(tmp_path / "peer").received["ada"].gaps()[0][0] == 2001


def written(folder, *, closed=True, **options):
    """The bytes of a log of two senders; its folder looks as if it had just stopped."""
    receipt_log = ReceiptLog(folder, **options)
    for sequence in range(1, 8):
        receipt_log.append("ada", 1_000_000, sequence)
        receipt_log.append("cyd", 2_000_000, 3 * sequence)
    receipt_log.start("bob")
    if closed:
        receipt_log.close()
    return (folder / "receipt_log").read_bytes()


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.kill()
    half = b"received ada 4 7"
    with (tmp_path / "receipt_log").open("ab") as file:
        file.write(half)
    before = state(reopened(tmp_path))
    assert set(before) == {"ada", "bob", "cyd"}
    assert state(reopened(tmp_path)) == before
    with (tmp_path / "receipt_log").open("ab") as file:
        file.write(half)  # nobody was writing: this is damage
    with pytest.raises(ConfigError, match="is damaged at its end"):
        ReceiptLog(tmp_path)


@pytest.mark.parametrize("times", [150, pytest.param(8000, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("file", ["receipt_log", "receipt_count"])
def test_no_damage_is_read_as_something_else(tmp_path, times, file):
    """Refused in one line, or without effect; whole lines that are lost included."""
    written(tmp_path, clock=lambda: 5000.0)
    files = {path: path.read_bytes() for path in tmp_path.glob("receipt_*")}
    expected, rng = state(reopened(tmp_path)), random.Random(file)
    lines = files[tmp_path / "receipt_log"].splitlines(keepends=True)
    cuts = [b"".join(lines[:end]) for end in range(len(lines))]
    outcomes = Counter()
    for number in range(times):
        for path, content in files.items():
            path.write_bytes(content)
        content = damaged(files[tmp_path / file], rng)
        if file == "receipt_log" and number < len(cuts):
            content = cuts[number]
        (tmp_path / file).write_bytes(content)
        try:
            found = reopened(tmp_path, clock=lambda: 5000.0)
        except ConfigError:
            outcomes["refused"] += 1
        else:
            assert state(found) == expected
            outcomes["same"] += 1
    assert outcomes["refused"] > times / 2


def test_what_a_removed_log_or_a_stopped_machine_lost_is_not_replayed(
    tmp_path, monkeypatch, caplog
):
    written(tmp_path, closed=False, clock=lambda: 5000.0)
    copies = [tmp_path.with_name(f"{tmp_path.name}-{number}") for number in range(2)]
    for copy in copies:
        shutil.copytree(tmp_path, copy, ignore=lambda *_: ["lock"])
    (copies[0] / "receipt_log").unlink()
    removed = reopened(copies[0], clock=lambda: 6000.0)
    assert removed.received == {}
    assert removed.before_ms == 6_000_000 + FUTURE_MS
    assert reopened(copies[0], clock=lambda: 6001.0).before_ms == removed.before_ms
    assert "was removed: messages sent until 30 s from now" in caplog.text
    monkeypatch.setattr(module, "_boot", lambda: "another")
    stopped = reopened(copies[1], clock=lambda: 6000.0)
    assert stopped.before_ms == 6_000_000 + FUTURE_MS
    assert set(stopped.received) == {"ada", "bob", "cyd"}


def test_a_machine_that_stops_soon_after_a_start_has_not_closed_the_log(
    tmp_path, monkeypatch
):
    reopened(tmp_path)
    path, durable = tmp_path / "receipt_count", []
    sync = os.fsync

    def recorded(handle):
        sync(handle)
        if os.path.samestat(os.fstat(handle), path.stat()):
            durable.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", recorded)
    receipt_log = ReceiptLog(tmp_path, clock=lambda: 5000.0)
    receipt_log.append("ada", 4, 1)
    stopped = tmp_path.with_name(f"{tmp_path.name}-stopped")
    shutil.copytree(tmp_path, stopped, ignore=lambda *_: ["lock"])
    (stopped / path.name).write_bytes(durable[-1])  # the last that reached the disk
    monkeypatch.setattr(module, "_boot", lambda: "another")
    assert reopened(stopped, clock=lambda: 6000.0).before_ms == 6_000_000 + FUTURE_MS


def test_a_full_disk_records_nothing_and_breaks_nothing(tmp_path):
    receipt_log = ReceiptLog(tmp_path)
    receipt_log.append("ada", 4, 1)
    before = state(receipt_log)
    size = (tmp_path / "receipt_log").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4, limits[1]))  # half a line
        with pytest.raises(OSError, match="too large"):
            receipt_log.append("ada", 4, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert state(receipt_log) == before
    assert (tmp_path / "receipt_log").stat().st_size == size
    receipt_log.append("ada", 4, 3)
    receipt_log.close()
    assert list(reopened(tmp_path).received["ada"].ranges()) == [(0, 1), (3, 3)]


def test_a_log_that_cannot_be_compacted_grows(tmp_path):
    receipt_log = ReceiptLog(tmp_path, max_lines=3)
    (tmp_path / "receipt_log.new").mkdir()
    for sequence in range(1, 20):
        receipt_log.append("ada", 4, sequence)
    (tmp_path / "receipt_log.new").rmdir()
    receipt_log.close()
    assert list(reopened(tmp_path).received["ada"].ranges()) == [(0, 19)]


def test_an_unwritable_folder_gets_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/peer' cannot be used: Not a dir"):
        ReceiptLog(tmp_path / "file" / "peer")


def test_epochs_grow_whatever_the_clock_shows(tmp_path):
    epochs = []
    for now_s in (1.0, 1.0, 0.01, 5.0, 4.999):
        receipt_log = ReceiptLog(tmp_path, clock=lambda now_s=now_s: now_s)
        epochs.append(receipt_log.start("bob"))
        receipt_log.close()
    assert epochs == [1000, 1001, 1002, 5000, 5001]


@pytest.mark.parametrize("restart", [True, False])
def test_starts_recorded_while_the_clock_was_ahead_are_void(tmp_path, restart):
    """Neither the own next start nor those of others have to be later than them."""
    now_s = [5000.0 + 1000.0]
    receipt_log = ReceiptLog(tmp_path, clock=lambda: now_s[0])
    ahead = receipt_log.start("bob")
    receipt_log.append("ada", ahead, 3)
    now_s[0] = 5000.0
    if restart:
        receipt_log.close()
        receipt_log = ReceiptLog(tmp_path, clock=lambda: now_s[0])
    assert receipt_log.latest("ada") is None
    assert receipt_log.start("bob") == 5_000_000
    receipt_log.append("ada", 5_000_100, 1)
    for _ in range(2):
        now_s[0] += 2000.0  # their time has come, and they stay void
        assert receipt_log.is_void("ada", ahead)
        assert receipt_log.latest("ada").epoch == 5_000_100
        receipt_log.close()
        receipt_log = ReceiptLog(tmp_path, clock=lambda: now_s[0])
    receipt_log.append("ada", ahead + 5, 1)
    receipt_log.close()
    reopened(tmp_path, clock=lambda: now_s[0])
    assert not reopened(tmp_path, clock=lambda: now_s[0]).is_void("ada", ahead)
