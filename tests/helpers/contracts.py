"""What holds of everything that takes part in an exchange, whatever its kind.

A ``Kind`` is a function of stacked peers that says, argument by argument, how peers
are laid out in it. That is all that properties need to permute peers, to mask them,
to poison what one of them says, and to batch runs.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

P = 5  # peers, unless a test says otherwise
SIZES = (1, 2, 3, 5, 16, 64)
SEEDS = (0, 1)  # of an odd one every switch of the weights is thrown
NO_NUMBERS = (np.nan, np.inf, -np.inf, 1e30, -1e30)
STRANGER_ORDER = (3, 0, 4, 1, 2)


class Kind(NamedTuple):
    """One implementation, and where peers are in what it takes and gives.

    One letter for each argument and each result:

        i  receivers lead             E  edges [I, J]; 0 is no edge
        j  claims, senders lead       T  trust [I, J]
        s  senders lead               p  whom a receiver hears, by position [I, C]
        -  no peers                   b  receivers lead, bytes and counts of messages

    ``byzantine`` says what claims that are no numbers do: "absent", their sender is as
    good as not there; "finite", they are survived; "no", others must bound them first.
    """

    run: Callable[..., tuple[Any, ...]]
    make: Callable[[int, int], tuple[Any, ...]]  # (peers, seed) -> arguments
    takes: str
    gives: str
    byzantine: str = "no"
    order: tuple[int, ...] = STRANGER_ORDER  # in which peers may come as well
    empty_padding: bool = False  # masked peers must have said nothing: all is 0
    finite: bool = True  # what it gives


# What is done to peers.


def take(args: tuple, letters: str, order: Any) -> tuple:
    """The same peers in another order, or some of them, with all that is theirs."""
    order = np.asarray(order)

    def one(arg: Any, letter: str) -> Any:
        def leaf(x: Any) -> np.ndarray:
            x = np.asarray(x)
            if letter == "-":
                return x
            x = x[order]
            if letter == "p":
                place = np.argsort(order)
                x = np.where(x < 0, x, place[x]).astype(x.dtype)
            return x[:, order] if letter in "ET" else x

        return jax.tree.map(leaf, arg)

    return tuple(one(*pair) for pair in zip(args, letters, strict=True))


def pad(kind: Kind, args: tuple, wider: tuple) -> tuple:
    """``args`` followed by masked peers, who may hold anything: that of ``wider``.

    Nobody hears them, they hear nobody, and trust in them is what it is at the
    start: the mean of the row, as those who are heard share the rest among them.
    """

    def one(x: Any, y: Any, letter: str) -> np.ndarray:
        x, y = np.asarray(x), np.array(y)
        if letter == "-":
            return x
        if letter == "E" or kind.empty_padding:
            y[:] = 0
        if letter in "ET":
            if letter == "T":
                y[: len(x)] = x.mean(axis=1, keepdims=True)
            y[: len(x), : len(x)] = x
        else:
            y[: len(x)] = x
        return y

    def argument(arg: Any, wide: Any, letter: str) -> Any:
        return jax.tree.map(lambda x, y: one(x, y, letter), arg, wide)

    return tuple(argument(*each) for each in zip(args, wider, kind.takes, strict=True))


def poison(kind: Kind, args: tuple, sender: int, value: float) -> tuple:
    """Everything that one sender claims becomes ``value``."""

    def one(arg: Any, letter: str) -> Any:
        if letter != "j":
            return arg

        def leaf(x: np.ndarray) -> np.ndarray:
            x = np.array(x)
            x[sender] = value
            return x

        return jax.tree.map(leaf, arg)

    return tuple(one(*pair) for pair in zip(args, kind.takes, strict=True))


def silence(kind: Kind, args: tuple, sender: int | None = None) -> tuple:
    """Nobody hears ``sender``, or nobody hears anybody."""

    def one(arg: Any, letter: str) -> Any:
        if letter != "E":
            return arg
        arg = np.array(arg)
        arg[:, slice(None) if sender is None else sender] = 0.0
        return arg

    return tuple(one(*pair) for pair in zip(args, kind.takes, strict=True))


def replaced(args: tuple, position: int, value: Any) -> tuple:
    """The arguments with another one at ``position``."""
    return (*args[:position], value, *args[position + 1 :])


TRACES: Counter[tuple[Kind, int]] = Counter()


@functools.cache
def compiled(kind: Kind, peers: int) -> Callable[..., tuple[Any, ...]]:
    """The kind's program for so many peers, made once; ``TRACES`` counts.

    Transformations are of this program: it is not traced again for them.
    """

    def counted(*args: Any) -> tuple[Any, ...]:
        TRACES[kind, peers] += 1
        return kind.run(*args)

    return jax.jit(counted)


def outcome(kind: Kind, args: tuple, peers: int = P, *, over_runs: bool = False) -> Any:
    """What a kind's program makes of ``args``, as NumPy."""
    program = compiled(kind, peers)
    if over_runs:
        program = jax.jit(jax.vmap(program))
    with jax.debug_nans(kind.finite):
        return jax.tree.map(np.asarray, program(*args))


# Properties.


def assert_close(got: Any, expected: Any, tolerance: float = 2e-5) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        got,
        expected,
    )


def assert_same(got: Any, expected: Any) -> None:
    """Equal to the bit."""
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def assert_finite(tree: Any) -> None:
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(leaf).all()


def check_shapes(kind: Kind, sizes: tuple[int, ...] = SIZES) -> None:
    """Peers lead, what follows does not depend on their number; all is float32."""
    rest = set()
    for peers in sizes:
        told = jax.eval_shape(compiled(kind, peers), *kind.make(peers, 0))
        assert len(told) == len(kind.gives)
        found = []
        for result, letter in zip(told, kind.gives, strict=True):
            axes = 2 if letter in "ET" else 1
            for leaf in jax.tree.leaves(result):
                assert leaf.shape[:axes] == (peers,) * axes
                assert leaf.dtype == jnp.float32
                assert letter != "T" or not leaf.weak_type  # rounds carry trust
                found.append(leaf.shape[axes:])
        rest.add(tuple(found))
    assert len(rest) == 1


def check_order(kind: Kind) -> None:
    """Peers may come in another order, with all that is theirs."""
    for seed in SEEDS:
        args = kind.make(P, seed)
        moved = outcome(kind, take(args, kind.takes, kind.order))
        assert_close(moved, take(outcome(kind, args), kind.gives, kind.order))


def check_finite(kind: Kind) -> None:
    """Of honest claims, and where each sender puts no number into one field."""
    for seed in SEEDS:
        args = kind.make(P, seed)
        assert_finite(outcome(kind, args))
        if kind.byzantine == "no":
            continue
        claims = kind.takes.index("j")
        leaves, structure = jax.tree.flatten(args[claims])
        for position, leaf in enumerate(leaves):
            spoilt = np.array(leaf)
            for sender, value in enumerate(NO_NUMBERS):
                spoilt[sender] = value
            broken = replaced(tuple(leaves), position, spoilt)
            told = jax.tree.unflatten(structure, broken)
            assert_finite(outcome(kind, replaced(args, claims, told)))


def check_absence(kind: Kind, sender: int = 1) -> None:
    """Who says nothing but what is no number is as good as absent."""
    for seed in SEEDS:
        args = kind.make(P, seed)
        expected = outcome(kind, silence(kind, args, sender))
        for value in NO_NUMBERS:
            got = outcome(kind, poison(kind, args, sender, value))
            assert_finite(got)
            if "E" in kind.takes:  # nonsense travels like any other message
                letters = zip(got, expected, kind.gives, strict=True)
                both = [(x, y) for x, y, letter in letters if letter != "b"]
                assert_close(*zip(*both, strict=True), 1e-6)
                continue
            others = np.arange(P) != sender
            assert_same(*(take(x, kind.gives, others) for x in (got, expected)))


def check_one_trace(kind: Kind) -> None:
    """Other values, switches included, do not compile again."""
    for seed in (0, 1, 2):
        outcome(kind, kind.make(P, seed))
    assert TRACES[kind, P] == 1


def check_padding_and_runs(kind: Kind) -> None:
    """Two runs of three peers side by side are each alone beside two masked peers."""
    runs = [kind.make(3, seed) for seed in SEEDS]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
    map_batch_size = outcome(kind, stacked, 3, over_runs=True)
    for r, args in enumerate(runs):
        wide = pad(kind, args, kind.make(P, r + 10))
        alone = take(outcome(kind, wide), kind.gives, range(3))
        assert_close(jax.tree.map(lambda leaf, r=r: leaf[r], map_batch_size), alone)


def check_one_and_many(kind: Kind, peers: int) -> None:
    """One among four masked is alone; five among fifty-nine masked are five."""
    small, large = sorted((peers, P))
    args = kind.make(small, 0)
    wide = pad(kind, args, kind.make(large, 10))
    padded = take(outcome(kind, wide, peers=large), kind.gives, range(small))
    assert_close(padded, outcome(kind, args, peers=small))
    assert_finite(outcome(kind, kind.make(peers, 1), peers=peers))


def check_stepwise(kind: Kind) -> None:
    """Compiled or not; no step may be NaN, not even one that is thrown away."""
    args = kind.make(P, 1)
    with jax.disable_jit():
        slow = jax.tree.map(np.asarray, kind.run(*args))
    assert_close(slow, outcome(kind, args))
