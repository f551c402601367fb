"""A folder has one owner, who is named; a dead owner stops nobody."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.folder_lock import FolderInUse, FolderLock, claim_number

OWNER = """
import sys, time
from pathlib import Path
from p2p_sac_jax.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


def test_the_second_is_refused_by_name_until_the_first_dies(tmp_path):
    folder = tmp_path / "runs" / "001"
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"locked\n"
        with pytest.raises(FolderInUse) as refused:
            FolderLock(folder)
        os.kill(owner.pid, signal.SIGKILL)
    name, host = re.escape(repr(str(folder))), re.escape(socket.gethostname())
    expected = rf"workdir={name} is in use by process {owner.pid} of \S+ on {host} sin"
    assert re.match(expected, str(refused.value))
    assert (folder / "lock").exists()  # left by the dead process
    taken_over = pytest.raises(FolderInUse, match=f"process {os.getpid()} of")
    with FolderLock(folder), taken_over:
        FolderLock(folder)
    assert list(folder.iterdir()) == []


def test_folders_that_were_created_and_stay_empty_go(tmp_path):
    with FolderLock(tmp_path / "a" / "b") as lock:
        assert (tmp_path / "a" / "b" / "lock").exists()
        lock.release()
        assert list(tmp_path.iterdir()) == []
    with FolderLock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="cannot be used: Too many levels"):
        FolderLock(tmp_path / "x")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_folder_that_goes_while_it_is_locked_is_made_again(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    really = os.open
    pending = [tmp_path / "a" / "b", tmp_path / "a"]

    def remove_and_open(*arguments):
        while pending:
            pending.pop(0).rmdir()  # as the last owner does in its release
        return really(*arguments)

    monkeypatch.setattr(os, "open", remove_and_open)
    with FolderLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / "lock").exists()


def test_a_folder_that_was_removed_can_be_owned_anew(tmp_path):
    with FolderLock(tmp_path / "x") as first:
        (tmp_path / "x" / "lock").unlink()
        with FolderLock(tmp_path / "x"):
            first.release()
            with pytest.raises(FolderInUse):
                FolderLock(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "Not a directory|File exists"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels|File exists"),
        ("dangling", "File exists"),
        ("n" * 300, "File name too long"),
    ],
)
def test_an_impossible_folder_is_one_line(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "x")
    with pytest.raises(ConfigError, match=rf"^workdir='.*' cannot be used: ({reason})"):
        FolderLock(tmp_path / name)


def test_numbers_are_claimed_once(tmp_path):
    (tmp_path / "runs" / "007").mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim_number, [tmp_path / "runs"] * 40))
    names = sorted(folder.name for folder in claimed)
    assert names == [f"{number:03d}" for number in range(8, 48)]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/runs': Not a directory"):
        claim_number(tmp_path / "file" / "runs")
