"""Envelopes and bodies: honest messages arrive, all others are refused."""

import random
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from p2p_sac_jax.agent.protocol.envelope import (
    DOMAIN,
    MAX_BYTES,
    SIGNATURE_BYTES,
    Envelope,
    parse_signed,
    sign,
    verify,
)
from p2p_sac_jax.agent.protocol.payloads import (
    BODIES,
    LARGEST,
    LATEST_S,
    MAX_BODY_BYTES,
    TIMES,
    decode_body,
    encode_body,
)
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalError
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.messages import (
    MODES,
    ConsortiumMessage,
    PrivateMessage,
    PublicMessage,
)
from p2p_sac_jax.types import DemandSummary, Insight
from tests.helpers import signed_messages as example

KEY = example.IDENTITIES["ada"].signing_key
numbers = st.floats(-LARGEST, LARGEST, width=32)


def reason(call, *arguments):
    with pytest.raises(RefusalError) as caught:
        call(*arguments)
    return caught.value.reason


def admit(raw, source="ada", mode="public"):
    return example.admission(mode).admit(raw, source)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(example.KINDS_OF_BODY), st.data())
def test_a_message_survives_encoding_and_decoding(key, data):
    mode, kind = key
    shapes = st.sampled_from([(), (0,), (3,), (2, 3)])
    sent = {
        name: np.asarray(
            data.draw(st.lists(numbers, min_size=6, max_size=6)), np.float32
        )[: int(np.prod(shape))].reshape(shape)
        for name in BODIES[key].__struct_fields__
        for shape in [data.draw(shapes)]
    }
    body = encode_body(mode, kind, sent)
    envelope = example.envelope(mode=mode, kind=kind, body=body)
    raw = sign(envelope, KEY)
    message = parse_signed(raw)
    verify(message, KEY.verify_key)
    assert message.envelope == envelope
    received = decode_body(mode, kind, message.envelope.body)
    assert set(received) == set(sent)
    for name, array in sent.items():
        assert received[name].dtype == np.float32
        assert received[name].tobytes() == array.tobytes()
        assert received[name].shape == (array.size,)


def test_bodies_hold_exactly_the_leaves_of_the_messages_of_their_mode():
    def leaves(mode):
        model, market = (
            BODIES[mode, kind].__struct_fields__
            for kind in ("model_insight", "market_insight")
        )
        return sorted(model), sorted(market)

    def split(message):
        demand = [name for name in message._fields if name.startswith("demand_")]
        return (
            sorted(set(message._fields) - set(demand)),
            sorted(name.removeprefix("demand_") for name in demand),
        )

    assert PrivateMessage._fields == ("insight", "demand", "performance")
    full = sorted((*Insight._fields, "performance")), sorted(DemandSummary._fields)
    assert leaves("private") == full
    assert leaves("consortium") == split(ConsortiumMessage)
    assert leaves("public") == split(PublicMessage)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_envelope_fits_around_the_largest_body(mode):
    longest = 2**62 - 1
    envelope = Envelope(
        longest,
        *["n" * 64] * 4,
        epoch=longest,
        sequence=longest - 1,
        time_ms=longest,
        body=b"x" * MAX_BODY_BYTES,
    )
    assert len(sign(envelope, KEY)) <= MAX_BYTES


def test_messages_that_receivers_would_refuse_do_not_leave():
    honest = example.fields()
    for bad in (np.nan, np.inf, -np.inf, 1.01e9, -1e30):
        numbers = honest | {"trend": np.array([0.0, bad])}
        assert reason(encode_body, "public", "model_insight", numbers) == "bad_number"
    late = honest | {"time": np.array(2917 * 604_800.0)}  # week 2917: 1.8e9 s
    encode_body("public", "model_insight", late)
    with pytest.raises(ConfigError, match=r"action_mean.*must be, in mode public"):
        encode_body("public", "model_insight", honest | {"action_mean": np.ones(3)})
    with pytest.raises(ConfigError, match=r"kind='gossip' must be one of: model_ins"):
        encode_body("public", "gossip", honest)
    with pytest.raises(ConfigError, match="mode='open' must be one of: private, con"):
        encode_body("open", "model_insight", honest)
    large = honest | {"trend": np.ones(20_000)}
    with pytest.raises(ConfigError, match="at most 65024: use fewer cells"):
        encode_body("public", "model_insight", large)
    with pytest.raises(RefusalError, match="oversize"):
        sign(example.envelope(body=bytes(MAX_BYTES)), KEY)


# What msgspec alone would let pass, or raises something else for.


def sent(**changes):
    """The envelope as a list, to be written by hand."""
    return list(msgspec.structs.asdict(example.envelope(**changes)).values())


def packed(values):
    return msgspec.msgpack.encode(values)


def wide(number):
    return b"\xcf" + number.to_bytes(8, "big")


def by_hand(values, place, encoded):
    """A message whose field ``place`` is encoded by hand."""
    parts = [packed(value) for value in values]
    parts[place] = encoded
    return bytes([0x90 + len(parts)]) + b"".join(parts)


def body_by_hand(*pairs, head=None):
    """A body of a public market insight, written pair by pair."""
    head = bytes([0x80 + len(pairs)]) if head is None else head
    return head + b"".join(packed(part) for pair in pairs for part in pair)


MEAN, KNOWN = ("mean", b"\x00" * 8), ("known", b"\x00" * 4)
VALUES = sent()
PLACE = {name: place for place, name in enumerate(Envelope.__struct_fields__)}
ENVELOPES = {
    "nothing": (b"", "garbage"),
    "nil": (b"\xc0", "garbage"),
    "reserved byte": (b"\xc1", "garbage"),
    "trailing byte": (packed(VALUES) + b"\0", "garbage"),
    "cut off": (packed(VALUES)[:-1], "garbage"),
    "a field more": (packed([*VALUES, 0]), "garbage"),
    "a field less": (packed(VALUES[:-1]), "garbage"),
    "a map": (packed(msgspec.structs.asdict(example.envelope())), "garbage"),
    "long array head": (b"\xdc\x00\x09" + packed(VALUES)[1:], "not_canonical"),
    "endless array": (b"\xdd\xff\xff\xff\xff" + packed(VALUES)[1:], "garbage"),
    "deep nest": (b"\x91" * 60_000, "garbage"),
    "wide version": (by_hand(VALUES, PLACE["version"], wide(1)), "not_canonical"),
    "other version": (packed(sent(version=2)), "wrong_version"),
    "float sequence": (by_hand(VALUES, PLACE["sequence"], packed(1.0)), "garbage"),
    "negative epoch": (by_hand(VALUES, PLACE["epoch"], packed(-1)), "garbage"),
    "true sequence": (by_hand(VALUES, PLACE["sequence"], b"\xc3"), "garbage"),
    "huge epoch": (by_hand(VALUES, PLACE["epoch"], wide(2**64 - 1)), "garbage"),
    "sequence 0": (by_hand(VALUES, PLACE["sequence"], b"\0"), "garbage"),
    "long string": (by_hand(VALUES, PLACE["sender"], b"\xd9\x03ada"), "not_canonical"),
    "no utf-8": (by_hand(VALUES, PLACE["sender"], b"\xa3\xff\xfe\xfd"), "garbage"),
    "name of 65": (packed(sent(sender="a" * 65)), "garbage"),
    "long bytes": (
        by_hand(sent(body=b""), PLACE["body"], b"\xc5\x00\x00"),
        "not_canonical",
    ),
    "extension": (by_hand(VALUES, PLACE["body"], b"\xc7\x01\x01\x00"), "garbage"),
}
BODIES_BY_HAND = {
    "honest": (body_by_hand(MEAN, KNOWN), None),
    "a key twice": (body_by_hand(MEAN, KNOWN, KNOWN), "not_canonical"),
    "twice, two values": (body_by_hand(MEAN, ("mean", b""), KNOWN), "not_canonical"),
    "other order": (body_by_hand(KNOWN, MEAN), "not_canonical"),
    "long map head": (body_by_hand(MEAN, KNOWN, head=b"\xde\0\2"), "not_canonical"),
    "an action": (body_by_hand(MEAN, KNOWN, ("action_mean", b"")), "bad_body"),
    "a field less": (body_by_hand(MEAN), "bad_body"),
    "an integer": (body_by_hand(MEAN, ("known", 1)), "bad_body"),
    "a float": (body_by_hand(MEAN, ("known", 1.0)), "bad_body"),
    "a list": (body_by_hand(MEAN, ("known", [1.0])), "bad_body"),
    "three bytes": (body_by_hand(MEAN, ("known", b"\0\0\0")), "bad_body"),
    "trailing": (body_by_hand(MEAN, KNOWN) + b"\0", "bad_body"),
    "text": (body_by_hand(MEAN, ("known", "abcd")), "bad_body"),
}
for name, value in {
    "NaN": np.nan,
    "signalling NaN": np.uint32(0x7F80_0001).view(np.float32),
    "inf": np.inf,
    "-inf": -np.inf,
    "too large": 1.01e9,
}.items():
    pair = "known", np.float32(value).tobytes()
    BODIES_BY_HAND[name] = (body_by_hand(MEAN, pair), "bad_number")


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_has_one_encoding(name):
    encoded, expected = ENVELOPES[name]
    assert reason(admit, example.signed(encoded)) == expected


@pytest.mark.parametrize("name", BODIES_BY_HAND)
def test_a_body_has_one_encoding_and_only_the_fields_of_its_mode(name):
    body, expected = BODIES_BY_HAND[name]
    raw = example.signed_message(kind="market_insight", body=body)
    if expected is None:
        assert set(admit(raw).fields) == {"mean", "known"}
    else:
        assert reason(admit, raw) == expected


def test_in_public_mode_an_action_is_an_error_of_decoding():
    fields = example.fields("public")
    for name in ("action_mean", "action_std"):
        floats = {key: value.tobytes() for key, value in fields.items()}
        body = packed(floats | {name: b""})
        assert reason(admit, example.signed_message(body=body)) == Refusal.bad_body
    for mode in MODES.keys() - {"public"}:
        body = encode_body(mode, "model_insight", example.fields(mode))
        assert reason(admit, example.signed_message(body=body)) == Refusal.bad_body


def test_a_signature_counts_for_its_message_key_and_purpose():
    raw = example.signed_message()
    encoded = raw[SIGNATURE_BYTES:]
    assert admit(raw)
    for prefix in (b"", b"p2p_sac_jax/insight/2\0", DOMAIN[:-1]):
        other = KEY.sign(prefix + encoded).signature + encoded
        assert reason(admit, other) == Refusal.bad_signature
    assert reason(admit, example.signed(encoded, "bob")) == Refusal.bad_signature
    unknown = SigningKey(bytes(32)).sign(DOMAIN + encoded).signature
    assert reason(admit, unknown + encoded) == Refusal.bad_signature
    assert reason(admit, bytes(64) + encoded) == Refusal.bad_signature
    # S + L verifies under the same equation; RFC 8032 has one S for a message.
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(raw[32:64], "little") + order
    malleable = raw[:32] + scalar.to_bytes(32, "little") + encoded
    assert reason(admit, malleable) == Refusal.bad_signature


def test_size_is_checked_first():
    assert reason(parse_signed, bytes(MAX_BYTES + 1)) == Refusal.oversize
    assert reason(parse_signed, bytes(MAX_BYTES)) == Refusal.garbage


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(example.honest()), st.data())
def test_any_edit_is_refused(raw, data):
    first = data.draw(st.integers(0, len(raw)))
    last = data.draw(st.integers(first, min(len(raw), first + 16)))
    edited = raw[:first] + data.draw(st.binary(max_size=16)) + raw[last:]
    if edited != raw:
        mode = parse_signed(raw).envelope.mode
        reason(admit, edited, "ada", mode)


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_with_a_signature_too(encoded, sign):
    reason(admit, example.signed(encoded) if sign else encoded)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(example.honest()), st.data())
def test_an_edit_signed_by_a_member_is_refused_or_well_formed(raw, data):
    encoded = raw[SIGNATURE_BYTES:]
    first = data.draw(st.integers(0, len(encoded)))
    last = data.draw(st.integers(first, min(len(encoded), first + 8)))
    edited = encoded[:first] + data.draw(st.binary(max_size=8)) + encoded[last:]
    mode = parse_signed(raw).envelope.mode
    admission = example.admission(mode)
    try:
        envelope, fields, _ = admission.admit(example.signed(edited), None)
    except RefusalError:
        return
    assert packed(list(msgspec.structs.astuple(envelope))) == edited
    assert (envelope.sender, envelope.mode) == ("ada", mode)
    assert encode_body(mode, envelope.kind, fields) == envelope.body
    for name, array in fields.items():
        assert np.all(np.abs(array) <= (LATEST_S if name in TIMES else LARGEST))


def mutations(seed, count):
    """Refusals of ``count`` mutated messages by reason; anything else raises."""
    draw = random.Random(seed)
    modes = sorted(MODES)
    messages = {m: example.honest(m) + example.honest(m, seed=1) for m in modes}
    admissions = {mode: example.admission(mode) for mode in modes}
    reasons = Counter()
    for _ in range(count):
        mode = draw.choice(modes)
        raw = example.mutate(draw, messages[mode])
        try:
            admissions[mode].admit(raw, draw.choice((None, "ada")))
        except RefusalError as error:
            reasons[error.reason] += 1
    return reasons


def test_thousands_of_mutations_are_refused():
    reasons = mutations(seed=0, count=5000)
    assert reasons.total() == 5000
    deep = {"bad_signature", "not_canonical", "bad_body", "bad_number"}
    assert deep <= set(reasons)


@pytest.mark.evidence
def test_a_million_mutations_are_refused():
    reasons = mutations(seed=1, count=1_000_000)
    print(dict(reasons.most_common()))  # noqa: T201
    assert reasons.total() == 1_000_000
