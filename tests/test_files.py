"""Files that are written whole, and damage that is noticed."""

import json
import os
import resource
import signal

import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.files import DamagedFile, load_json, save_json, write_atomic

CONTENT = {"seed": 0, "name": "läufe", "tau": 0.005, "peers": [{"peer": 1}], "x": None}


def test_every_flipped_bit_of_a_file_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "run.json"
    save_json(path, CONTENT)
    whole = path.read_bytes()
    assert load_json(path) == CONTENT
    for index in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[index // 8] ^= 1 << index % 8
        path.write_bytes(damaged)
        try:
            found = load_json(path)
        except DamagedFile:
            continue
        assert CONTENT.items() <= found.items()  # white space, the name of the digest


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 40, b"\xff"])
def test_what_is_no_object_is_damaged(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        load_json(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_json(tmp_path / "nowhere")


def test_a_file_written_by_hand_needs_no_digest(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(CONTENT))
    assert load_json(path) == CONTENT


def test_a_full_disk_changes_nothing(tmp_path):
    path = tmp_path / "run.json"
    save_json(path, CONTENT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="too large"):
            write_atomic(path, b"x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert load_json(path) == CONTENT
    assert os.listdir(tmp_path) == ["run.json"]
