"""The receipt log: recorded messages stay recorded after any end of the process."""

import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog
from p2p_sac_jax.config import ConfigError

# Records as fast as possible, for three senders, and prints each message after it.
WRITER = """
import itertools, os, sys
from pathlib import Path
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog

log = ReceiptLog(Path(sys.argv[1]), max_lines=150)
epoch = log.start("bob", 1)
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


def reopened(folder):
    receipt_log = ReceiptLog(folder)
    receipt_log.close()
    return receipt_log


def test_a_killed_process_has_recorded_everything_it_took(tmp_path):
    epochs = []
    for kill_after in (1, 400, 1111):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(kill_after)]
            with pytest.raises(ConfigError, match="must belong to one running peer"):
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
        assert size < 102 * len("ada 1 2000 2000\n")
    receipt_log.close()
    for path in (tmp_path / "peer").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "peer").stat().st_mode & 0o077 == 0
    assert reopened(tmp_path / "peer").received["ada"].gaps()[0][0] == 2001


def test_half_a_last_line_is_dropped_and_other_damage_is_refused(tmp_path):
    receipt_log = ReceiptLog(tmp_path)
    receipt_log.append("ada", 4, 1)
    receipt_log.append("ada", 4, 2)
    receipt_log.close()
    path = tmp_path / "receipt_log"
    whole = path.read_bytes()
    for end in range(len(whole) - 1, len(whole) - 8, -1):
        path.write_bytes(whole[:end])
        assert list(reopened(tmp_path).received["ada"].ranges()) == [(0, 1)]
    path.write_bytes(whole + b"ada 4 7 7\n")
    assert list(reopened(tmp_path).received["ada"].ranges()) == [(0, 2), (7, 7)]
    for damage in (b"ada 4\n", b"ada 4 x 7\n", b"\xff\xff\n", b"\n", b"ada 4 5 6 7\n"):
        path.write_bytes(whole + damage + whole)
        with pytest.raises(ConfigError, match="is damaged at line 3"):
            ReceiptLog(tmp_path)
        assert path.read_bytes() == whole + damage + whole


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
    with pytest.raises(ConfigError, match="file/peer' must be writable: Not a dir"):
        ReceiptLog(tmp_path / "file" / "peer")


def test_epochs_grow_whatever_the_clock_shows(tmp_path):
    epochs = []
    for now_ms in (1000, 1000, 10, 5000, 4999):
        receipt_log = ReceiptLog(tmp_path)
        epochs.append(receipt_log.start("bob", now_ms))
        receipt_log.close()
    assert epochs == [1000, 1001, 1002, 5000, 5001]


def test_an_epoch_far_ahead_of_the_clock_is_replaced(tmp_path):
    """The clock was ahead, and has been set right since: others would wait for ever."""
    receipt_log = ReceiptLog(tmp_path)
    ahead = 5_000_000 + FUTURE_MS
    assert receipt_log.start("ada", ahead) == ahead
    assert receipt_log.start("ada", 5_000_001) == ahead + 1  # others may know the last
    assert receipt_log.start("ada", 5_000_000) == 5_000_000
    receipt_log.close()
    again = reopened(tmp_path)
    assert again.received["ada"].epoch == 5_000_000
