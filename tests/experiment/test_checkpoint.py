"""Checkpoints under another padding, and what damage does to them and to rows."""

import hashlib
import resource
import shutil
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.metrics import FileMark, MetricsFile, read_rows

PEERS, RUNS = 3, 2
START = FileMark(0, hashlib.sha256().hexdigest())


class State(NamedTuple):
    score: jax.Array  # [P, R]
    trust: jax.Array  # [P, R, J]


def state(padded, seed):
    rng = np.random.default_rng(seed)
    score = jnp.asarray(rng.normal(size=(padded, RUNS)), jnp.float32)
    trust = jnp.asarray(rng.uniform(size=(padded, RUNS, padded)), jnp.float32)
    return State(score, trust)


def checkpoints(folder, log=None, identity="run"):
    lines = [] if log is None else log
    return Checkpoints(folder, PEERS, identity, log=lines.append)


@pytest.mark.parametrize("later", [3, 4, 6])
def test_trust_survives_another_padding(tmp_path, later):
    before, like = state(4, 0), state(later, 1)
    saved = checkpoints(tmp_path)
    saved.save(7, before, START)
    restored = saved.restore(like)
    saved.close()
    assert restored.step == 7
    after = restored.state
    np.testing.assert_array_equal(after.score[:PEERS], before.score[:PEERS])
    np.testing.assert_array_equal(after.score[PEERS:], like.score[PEERS:])
    own = after.trust[:PEERS]
    np.testing.assert_array_equal(own[..., :PEERS], before.trust[:PEERS, :, :PEERS])
    assert not own[..., PEERS:].any()


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints 8 and 16, whose states come from these seeds."""
    saved = checkpoints(tmp_path)
    for step in (8, 16):
        saved.save(step, state(PEERS, step), START)
    saved.close()
    return tmp_path


def restore(folder):
    """Step that stands in, and the lines about others; its arrays are checked."""
    lines = []
    opened = checkpoints(folder, lines)
    try:
        restored = opened.restore(state(PEERS, 0))
    finally:
        opened.close()
    for own, saved in zip(restored.state, state(PEERS, restored.step), strict=True):
        np.testing.assert_array_equal(own, saved)
    return restored.step, lines


def test_damage_of_any_file_leads_to_the_one_before(two):
    """Cut short, emptied, removed, or one bit flipped."""
    files = [path for path in (two / "checkpoints" / "16").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        for content in (whole[: len(whole) // 2], b"", bytes(flipped), None):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            step, (line,) = restore(two)
            assert step == 8
            assert line == f"checkpoint 16 in {str(two / 'checkpoints')!r} is damaged"
            path.write_bytes(whole)
    assert restore(two) == (16, [])


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(two):
    shutil.rmtree(two / "checkpoints" / "16" / "d")
    assert restore(two)[0] == 8
    again = checkpoints(two)
    again.save(12, state(PEERS, 12), START)
    again.close()
    assert restore(two)[0] == 12
    again = checkpoints(two)
    again.save(16, state(PEERS, 16), START)
    again.close()
    assert restore(two) == (16, [])


def test_a_full_disk_costs_one_checkpoint(two):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    saved, rows = checkpoints(two), MetricsFile(two / "metrics.jsonl")
    rows.resume(None)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
        with pytest.raises(OSError, match=r"checkpoints/24'") as full:
            saved.save(24, state(PEERS, 24), START)
        with pytest.raises(OSError, match=r"File too large: .*metrics.jsonl'"):
            rows.append([{"step": 1, "price": [0.25] * 200}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    saved.close()
    assert "\n" not in str(full.value)
    assert restore(two) == (16, [])
    names = {path.name for path in (two / "checkpoints").iterdir()}
    assert names == {"8", "16"}


def test_rows_that_are_damaged_lead_to_an_earlier_checkpoint(tmp_path):
    rows, path = [{"step": step, "x": 0.1 * step} for step in (8, 16)], tmp_path / "m"
    file, saved = MetricsFile(path), checkpoints(tmp_path)
    file.resume(None)
    for row in rows:
        file.append([row])
        saved.save(row["step"], state(PEERS, row["step"]), file.mark())
    file.append([{"step": 20}])
    whole = path.read_bytes()
    for damage, step in (
        (whole, 16),
        (whole[:-30], 8),
        (whole.replace(b"1.6", b"1.7"), 8),
        (whole.replace(b'{"step": 16', b"\0" * 11), 8),
    ):
        path.write_bytes(damage)
        again = MetricsFile(path)
        restored = saved.restore(state(PEERS, 0), again.holds)
        assert restored.step == step
        again.resume(restored.rows)
        assert again.rows == [row for row in rows if row["step"] <= step]
        assert again.mark() == restored.rows
    path.write_bytes(b"\0" * 200)
    with pytest.raises(ConfigError, match="holds no checkpoint that can be used; --ov"):
        saved.restore(state(PEERS, 0), MetricsFile(path).holds)
    assert path.read_bytes() == b"\0" * 200
    saved.close()


def test_another_run_is_refused_and_no_checkpoint_is_none(two, tmp_path_factory):
    with pytest.raises(ConfigError, match=r"checkpoint 16 in .* does not hold the"):
        checkpoints(two, identity="another")
    empty = checkpoints(tmp_path_factory.mktemp("empty"))
    assert empty.restore(state(PEERS, 0)) is None
    empty.close()


def test_damaged_rows_are_left_out_of_a_report_with_one_line(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 4}\n' + b"\0" * 90 + b'\n{"st\n7\n{"step": 8}\n{"ste')
    assert read_rows(path) == [{"step": 4}, {"step": 8}]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: 3 damaged lines are left out, the first is line 2"
    )
