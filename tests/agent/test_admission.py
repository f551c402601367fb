"""Admission: byzantine messages by kind, and what they must not change."""

import itertools
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.agent.protocol import refusals as refusals_module
from p2p_sac_jax.agent.protocol.admission import RateLimiter
from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS, LAST, MAX_BYTES
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalCounter, RefusalError
from p2p_sac_jax.agent.protocol.sequence_set import SequenceSet
from tests.helpers.signed_messages import (
    IDENTITIES,
    NAMES,
    NOW_MS,
    NOW_S,
    admission,
    envelope,
    fields,
)
from tests.helpers.signed_messages import signed_message as signed

EPOCH = NOW_MS - 1000  # of honest messages


def taken(*ranges, epoch=EPOCH):
    sequences = SequenceSet(epoch)
    for first, last in ranges:
        sequences.add(first, last)
    return sequences


def refusal(admission, raw, source):
    with pytest.raises(RefusalError) as caught:
        admission.admit(raw, source)
    return caught.value.reason


def nan_body():
    good = envelope().body
    return good.replace(fields()["time"].tobytes(), np.full(3, np.nan, "<f4").tobytes())


# A message, its source by the transport, and the reason to refuse it. Ada is at
# message 5 of her second start; cyd is a byzantine member, mallory is none.
REFUSED = {
    "garbage": (lambda: b"\xff" * 300, "cyd", "garbage"),
    "empty": (lambda: b"", "cyd", "garbage"),
    "oversize": (lambda: bytes(MAX_BYTES + 1), "cyd", "oversize"),
    "other network": (lambda: signed(network="farm"), "ada", "wrong_network"),
    "other mode": (lambda: signed(mode="private"), "ada", "wrong_mode"),
    "unknown": (lambda: signed(sender="mallory"), "mallory", "unknown_sender"),
    "forged sender": (lambda: signed(signer="cyd"), "cyd", "wrong_source"),
    "forged, unknown source": (lambda: signed(signer="cyd"), "", "wrong_source"),
    "handed on unasked": (lambda: signed(sequence=9), "cyd", "wrong_source"),
    "forged answer": (lambda: signed(signer="cyd", sequence=9), None, "bad_signature"),
    "forged epoch": (
        lambda: signed(signer="cyd", epoch=EPOCH + 10),
        None,
        "bad_signature",
    ),
    "as myself": (lambda: signed(sender="bob", signer="cyd"), None, "echo"),
    "replay": (lambda: signed(sequence=5), "ada", "replay"),
    "replayed answer": (lambda: signed(sequence=1), None, "replay"),
    "stale epoch": (lambda: signed(sequence=9, epoch=EPOCH - 1), "ada", "stale_epoch"),
    "future": (
        lambda: signed(sequence=9, time_ms=NOW_MS + FUTURE_MS + 1),
        "ada",
        "future",
    ),
    "future start": (lambda: signed(epoch=NOW_MS + FUTURE_MS + 1), "ada", "future"),
    "beyond all numbers": (lambda: signed(sequence=LAST), "cyd", "garbage"),
    "unknown kind": (
        lambda: signed(sequence=9, kind="gossip", body=b""),
        "ada",
        "wrong_kind",
    ),
    "NaN": (lambda: signed(sequence=9, body=nan_body()), "ada", "bad_number"),
    "other body": (lambda: signed(sequence=9, body=b"\x80"), "ada", "bad_body"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_byzantine_messages_are_refused_and_change_nothing(name):
    make, source, expected = REFUSED[name]
    sets = {"ada": taken((1, 3), (5, 5))}
    before = list(sets["ada"].ranges())
    checks = admission(sets=sets, burst=2.0)
    for _ in range(50):
        reason = refusal(checks, make(), source)
        if reason == "rate":  # from the source itself
            assert source == "ada"
        else:
            assert reason == expected
    assert set(sets) == {"ada"}
    assert list(sets["ada"].ranges()) == before
    if source != "ada":  # her rate is untouched: two at once
        assert checks.admit(signed(sequence=4), "ada").envelope.sequence == 4
        assert checks.admit(signed(sequence=6), "ada").envelope.sequence == 6


def test_the_next_message_and_the_next_start_are_admitted():
    checks = admission(sets={"ada": taken((1, 5))})
    assert checks.admit(signed(sequence=6), "ada").envelope.sequence == 6
    assert checks.admit(signed(sequence=9), None).envelope.sequence == 9
    again = checks.admit(signed(sequence=1, epoch=EPOCH + 1), "ada")
    assert again.envelope.epoch == EPOCH + 1


@pytest.mark.parametrize("ahead_ms", [-(10**9), 0, 1, FUTURE_MS])
def test_a_message_is_at_least_as_old_as_its_arrival(ahead_ms):
    admitted = admission().admit(signed(time_ms=NOW_MS + ahead_ms), "ada")
    assert admitted.time_ms == min(NOW_MS + ahead_ms, NOW_MS)


def test_signed_messages_of_all_modes_are_admitted_in_their_mode():
    for mode, kind in itertools.product(
        ("private", "consortium", "public"), ("model_insight", "market_insight")
    ):
        received = admission(mode).admit(signed(mode=mode, kind=kind), "ada").fields
        values = fields(mode, kind)
        assert set(received) == set(values)
        for name, array in values.items():
            np.testing.assert_array_equal(received[name], array)


class Clock:
    def __init__(self):
        self.now = NOW_S

    def __call__(self):
        return self.now


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.floats(-0.5, 2.0)), min_size=1, max_size=60
    ),
    st.integers(1, 5),
)
def test_each_source_gets_its_rate_and_no_more(events, burst):
    """In any stretch of time t at most burst + rate · t; never less than the rate."""
    rate_per_s, clock = 3.0, Clock()
    rate = RateLimiter(NAMES, rate_per_s, burst, clock)
    passed = {name: [] for name in NAMES}
    elapsed = 0.0
    for name, pause in events:
        clock.now += pause  # clocks are set back at times
        elapsed += max(0.0, pause)
        if rate.charge(name):
            passed[name].append(elapsed)
    for times in passed.values():
        for first, last in itertools.combinations(range(len(times)), 2):
            allowed = burst + rate_per_s * (times[last] - times[first])
            assert last - first + 1 <= allowed + 1e-6

    steady = RateLimiter(NAMES, rate_per_s, burst, clock)
    for _ in range(50):
        clock.now += 1.0 / rate_per_s + 1e-6
        assert steady.charge("ada")
        while steady.charge("cyd"):
            pass


def test_refusals_can_be_read_while_they_are_counted():
    """By a monitor's thread, whatever new keys come meanwhile."""
    names = [f"peer{number}" for number in range(300)]
    refusals, failures, done = RefusalCounter(names), [], threading.Event()

    def read():
        while not done.is_set():
            try:
                refusals.by_source()
            except RuntimeError as error:
                failures.append(error)

    interval = sys.getswitchinterval()
    reader = threading.Thread(target=read)
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        for name, reason in itertools.product(names, Refusal):
            refusals.add(name, RefusalError(reason))
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert not failures
    assert sum(refusals.by_reason().values()) == len(names) * len(Refusal)


def test_refusals_are_counted_by_reason_and_source_and_logged_rarely(caplog):
    refusals = RefusalCounter(IDENTITIES)
    checks = admission(sets={"ada": taken((1, 5))})
    for number in range(1000):
        source = f"unknown{number}"
        for raw, by in ((b"", "cyd"), (signed(sequence=5), "ada"), (b"", source)):
            with pytest.raises(RefusalError) as caught:
                checks.admit(raw, by)
            refusals.add(by, caught.value)
    assert refusals.by_reason() == {"garbage": 2000, "replay": 1000}
    assert refusals.by_source() == {
        "cyd": {"garbage": 1000},
        "ada": {"replay": 1000},
        "": {"garbage": 1000},
    }
    assert len(caplog.records) == 30  # 1, 2, 4, ..., 512 of each of the three
    assert {record.getMessage() for record in caplog.records} == {"refused from a peer"}
    assert caplog.records[-2].data == {
        "peer": "ada",
        "reason": "replay",
        "detail": "5",
        "count": 512,
    }


def test_refusals_by_a_peer_from_before_the_start_are_not_told_again(
    caplog, monkeypatch
):
    monkeypatch.setattr(refusals_module, "READ_S", 0.0)
    refusals = RefusalCounter(IDENTITIES)
    for counts in ({"future": 9}, {"future": 9}, {"future": 11}, {}, {"busy": 1}):
        refusals.read("ada", [(Refusal(r), n) for r, n in counts.items()])
    told = [record.data for record in caplog.records]
    assert told == [
        {"peer": "ada", "refused": {"future": 2}},
        {"peer": "ada", "refused": {"busy": 1}},  # of its next start
    ]


def test_a_source_above_its_rate_keeps_its_rate():
    now = [0.0]
    rate = RateLimiter(["ada"], rate_per_s=1.0, burst=2.0, clock=lambda: now[0])
    assert not rate.charge("ada", 3.0)  # too large for the bucket
    accepted = 0
    for step in range(300):  # 1.5 a second
        now[0] = step / 1.5
        accepted += rate.charge("ada")
    assert 195 <= accepted <= 202
