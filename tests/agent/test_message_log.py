"""Windows, digests and logs: what is missing is found, in bounded memory."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.agent.protocol.envelope import LAST, MAX_BYTES
from p2p_sac_jax.agent.protocol.message_log import (
    REPLY_BYTES,
    REPLY_MESSAGES,
    MessageLog,
)
from p2p_sac_jax.agent.protocol.refusals import RefusalError
from p2p_sac_jax.agent.protocol.sequence_set import (
    MAX_GAPS,
    MAX_RANGES,
    SequenceSet,
    Want,
    make_digests,
    parse_digest,
)
from tests.helpers.signed_messages import roster

ranges = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 6)), max_size=40)


def contents(sequences, to=100):
    return {number for number in range(to) if number in sequences}


@settings(deadline=None, max_examples=150)
@given(ranges)
def test_a_sequence_set_is_a_set(pairs):
    sequences, reference = SequenceSet(7), {0}
    for first, extra in pairs:
        sequences.add(first, first + extra)
        reference |= set(range(first, first + extra + 1))
        assert contents(sequences) == reference
    missing = {n for a, b in sequences.gaps() for n in range(a, min(b, 99) + 1)}
    assert missing == set(range(100)) - reference
    assert sequences.gaps()[-1][1] == LAST
    listed = list(sequences.ranges())
    assert len(listed) == len(sequences)
    assert all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(listed))


@settings(deadline=None, max_examples=150)
@given(ranges, st.integers(1, 5))
def test_a_full_sequence_set_gives_up_its_oldest_gap(pairs, most):
    sequences, whole = SequenceSet(7, most), SequenceSet(7, 1000)
    for first, extra in pairs:
        sequences.add(first, first + extra)
        whole.add(first, first + extra)
        assert len(sequences) <= most
        # Nothing is ever taken twice.
        assert contents(sequences) >= contents(whole)
        given_up = contents(sequences) - contents(whole)
        kept = set(range(100)) - contents(sequences)
        assert not given_up or max(given_up) < min(kept)


def fill(message_log, sender, sequences, epoch=5, size=10):
    for sequence in sequences:
        head = f"{sender}{sequence} ".encode()
        message_log.add(sender, epoch, sequence, head.ljust(size, b"."))


def found(message_log, *wants):
    return [raw.split(b" ")[0].decode() for raw in message_log.missing(wants)]


@settings(deadline=None, max_examples=100)
@given(
    st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)), st.sampled_from([4, 5, 6])
)
def test_a_log_returns_exactly_the_missing_messages(held, had, epoch):
    message_log = MessageLog(["ada"], 1000, 1 << 20)
    fill(message_log, "ada", sorted(held, key=lambda n: n * 7 % 41))
    sequences = SequenceSet(epoch)
    for sequence in had:
        sequences.add(sequence, sequence)
    expected = {4: held, 5: held - had, 6: set()}[epoch]
    (digest,) = make_digests(roster(), ["ada"], {"ada": sequences})
    answer = found(message_log, *parse_digest(roster(), digest).wants)
    assert answer == [f"ada{sequence}" for sequence in sorted(expected)]


def test_the_first_digest_asks_for_everything():
    message_log = MessageLog(["ada", "bob"], 1000, 1 << 20)
    fill(message_log, "ada", range(1, 4))
    fill(message_log, "bob", range(7, 9))
    (digest,) = make_digests(roster(), ["ada", "bob"], {})
    wants = parse_digest(roster(), digest).wants
    assert found(message_log, *wants) == ["ada1", "bob7", "ada2", "bob8", "ada3"]


def test_a_new_epoch_replaces_the_last():
    message_log = MessageLog(["ada"], 1000, 1 << 20)
    fill(message_log, "ada", [1, 2, 3], epoch=5)
    fill(message_log, "ada", [1], epoch=6)
    assert (message_log.messages(), message_log.size()) == (1, 10)
    assert found(message_log, Want("ada", 0, ((1, LAST),))) == ["ada1"]


def test_no_sender_displaces_another_senders_messages():
    message_log = MessageLog(["ada", "bob", "cyd"], 100, 3000)
    fill(message_log, "bob", range(1, 101))
    fill(message_log, "ada", range(1, 10_001))
    fill(message_log, "cyd", range(1, 101), size=500)
    assert message_log.size() <= 3000
    everything = [Want(name, 0, ((1, LAST),)) for name in ("ada", "bob", "cyd")]
    answer = found(message_log, *everything)
    for sender, sequences in {
        "ada": range(9901, 10_001),
        "bob": range(1, 101),
        "cyd": (99, 100),
    }.items():
        expected = [f"{sender}{sequence}" for sequence in sequences]
        assert [name for name in answer if name.startswith(sender)] == expected
    assert message_log.messages() == 202


def test_replies_are_bounded_and_include_every_sender():
    message_log = MessageLog(["ada", "bob"], 10_000, 1 << 30)
    fill(message_log, "ada", range(1, 2001), size=30_000)
    fill(message_log, "bob", range(1, 2001))
    wants = [Want(name, 0, ((1, LAST),)) for name in ("ada", "bob")]
    answer = message_log.missing(wants)
    assert REPLY_BYTES - 30_010 < sum(map(len, answer)) <= REPLY_BYTES
    assert sum(raw.startswith(b"bob") for raw in answer) >= len(answer) // 2
    assert len(message_log.missing(wants[1:])) == REPLY_MESSAGES
    assert found(message_log, *[wants[1]] * MAX_GAPS) == found(message_log, wants[1])


def test_digests_of_many_gaps_fit_into_messages():
    sets = {}
    for name in ("ada", "bob", "cyd"):
        sets[name] = SequenceSet(2**61)
        for number in range(3 * MAX_RANGES):
            sets[name].add(2**61 + 2 * number, 2**61 + 2 * number)
    pages = make_digests(roster(), list(sets), sets)
    assert all(len(page) <= MAX_BYTES for page in pages)
    asked = {name: [] for name in sets}
    for page in pages:
        for want in parse_digest(roster(), page).wants:
            asked[want.sender] += want.gaps
    assert asked == {name: sequences.gaps() for name, sequences in sets.items()}


def test_the_first_digest_includes_every_sender():
    sets = {"ada": SequenceSet(7), "cyd": SequenceSet(7)}
    for number in range(3 * MAX_RANGES):
        sets["ada"].add(2 * number, 2 * number)
    sets["cyd"].add(5, 5)
    first, *_ = make_digests(roster(), ["ada", "bob", "cyd"], sets)
    wants = {want.sender: want for want in parse_digest(roster(), first).wants}
    assert wants["bob"] == Want("bob", 0, ((1, LAST),))
    assert wants["cyd"] == Want("cyd", 7, ((1, 4), (6, LAST)))
    many = [f"peer{number}" for number in range(MAX_GAPS + 1)]
    pages = [
        parse_digest(roster(), page).wants for page in make_digests(roster(), many, {})
    ]
    assert [want.sender for page in pages for want in page] == many


def test_a_sequence_set_at_the_last_number_asks_for_the_rest():
    sequences = SequenceSet(7)
    sequences.add(3, LAST)
    (page,) = make_digests(roster(), ["ada"], {"ada": sequences})
    assert parse_digest(roster(), page).wants == (Want("ada", 7, ((1, 2),)),)


def digest(**changes):
    values = {"version": 1, "network": "shops", "mode": "public"} | {
        "wants": [],
        "refused": [],
    }
    return msgspec.msgpack.encode(list((values | changes).values()))


BAD_DIGESTS = {
    "nothing": (b"", "garbage"),
    "trailing": (digest() + b"\0", "garbage"),
    "oversize": (bytes(MAX_BYTES + 1), "oversize"),
    "version": (digest(version=2), "wrong_version"),
    "network": (digest(network="farm"), "wrong_network"),
    "mode": (digest(mode="private"), "wrong_mode"),
    "a gap of one end": (digest(wants=[["ada", 1, [[1]]]]), "garbage"),
    "negative": (digest(wants=[["ada", 1, [[-1, 5]]]]), "garbage"),
    "float": (digest(wants=[["ada", 1, [[1.0, 5]]]]), "garbage"),
    "too many gaps": (digest(wants=[["ada", 1, [[1, 2]] * (MAX_GAPS + 1)]]), "garbage"),
    "too many wants": (digest(wants=[["ada", 1, []]] * (MAX_GAPS + 1)), "garbage"),
    "an unknown reason": (digest(refused=[["because", 1]]), "garbage"),
    "wide": (digest().replace(b"\x95\x01", b"\x95\xcc\x01"), "not_canonical"),
}


@pytest.mark.parametrize("name", BAD_DIGESTS)
def test_a_digest_is_read_strictly(name):
    raw, reason = BAD_DIGESTS[name]
    with pytest.raises(RefusalError) as caught:
        parse_digest(roster(), raw)
    assert caught.value.reason == reason


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.booleans())
def test_a_digest_of_any_bytes_is_read_or_refused(raw, head):
    message_log = MessageLog(["ada"], 100, 1 << 20)
    fill(message_log, "ada", range(1, 20))
    try:
        read = parse_digest(roster(), digest()[:-2] + raw if head else raw)
    except RefusalError:
        return
    assert len(message_log.missing(read.wants)) <= 19
