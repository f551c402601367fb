"""Properties that hold of everything that takes part in an exchange.

A ``Kind`` is a function of stacked peers with a letter for each argument, which states
how peers are laid out in it. The checks use the letters to permute peers, to mask
them, to replace the messages of one sender, and to batch runs.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

P = 5  # peers, unless a test sets another number
SEEDS = (0, 1)  # an odd seed flips every switch of the weights
NO_NUMBERS = (np.nan, np.inf, -np.inf, 1e30, -1e30)
STRANGER_ORDER = (3, 0, 4, 1, 2)


class Kind(NamedTuple):
    """One implementation, and where peers are in its arguments and results.

    One letter for each argument and each result:

        i  receivers lead             E  edges [I, J]; 0 is no edge
        j  messages, senders lead     T  trust [I, J]
        s  senders lead               p  sender of each receiver, by position [I, C]
        -  no peers                   b  receivers lead, bytes and counts of messages

    ``byzantine`` is what messages that are not numbers do: "absent", their sender
    counts as absent; "finite", results stay finite; "no", others must sanitize them.
    """

    run: Callable[..., tuple[Any, ...]]
    make: Callable[[int, int], tuple[Any, ...]]  # (peers, seed) -> arguments
    takes: str
    gives: str
    byzantine: str = "no"
    order: tuple[int, ...] = STRANGER_ORDER  # a permutation that must be allowed
    empty_padding: bool = False  # masked peers must have sent nothing: all is 0
    finite: bool = True  # whether results are finite


# Changes to the arguments.


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
    """``args`` followed by masked peers with the values of ``wider``.

    They have no edges, and trust in them is the mean of the row, as at the start.
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
    """Every number in one sender's messages becomes ``value``."""

    def leaf(x: np.ndarray) -> np.ndarray:
        x = np.array(x)
        x[sender] = value
        return x

    position = kind.takes.index("j")
    return replaced(args, position, jax.tree.map(leaf, args[position]))


def cut(kind: Kind, args: tuple, sender: int | None = None) -> tuple:
    """Without the edges from ``sender``, or without any edge."""
    if "E" not in kind.takes:
        return args
    position = kind.takes.index("E")
    edges = np.array(args[position])
    edges[:, slice(None) if sender is None else sender] = 0.0
    return replaced(args, position, edges)


def replaced(args: tuple, position: int, value: Any) -> tuple:
    """The arguments with another one at ``position``."""
    return (*args[:position], value, *args[position + 1 :])


TRACES: Counter[tuple[Kind, int]] = Counter()


@functools.cache
def compiled(kind: Kind, peers: int) -> Callable[..., tuple[Any, ...]]:
    """The kind's program for so many peers, made once; ``TRACES`` counts its traces.

    Transformations apply to this program and do not trace it again.
    """

    def counted(*args: Any) -> tuple[Any, ...]:
        TRACES[kind, peers] += 1
        return kind.run(*args)

    return jax.jit(counted)


def outcome(kind: Kind, args: tuple, peers: int = P, *, over_runs: bool = False) -> Any:
    """The results of a kind's program, as NumPy."""
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


def check_contract(kind: Kind) -> None:
    """All checks that one compiled program of ``P`` peers can answer."""
    check_shapes(kind)
    check_order(kind)
    check_finite(kind)
    if kind.byzantine == "absent":
        check_absence(kind)
    # Other values, switches included, do not compile again.
    outcome(kind, kind.make(P, 2))
    assert TRACES[kind, P] == 1


def check_shapes(kind: Kind) -> None:
    """Peers lead, other axes do not depend on their number; all is float32."""
    rest = set()
    for peers in (1, P):
        results = jax.eval_shape(compiled(kind, peers), *kind.make(peers, 0))
        assert len(results) == len(kind.gives)
        found = []
        for result, letter in zip(results, kind.gives, strict=True):
            axes = 2 if letter in "ET" else 1
            for leaf in jax.tree.leaves(result):
                assert leaf.shape[:axes] == (peers,) * axes
                assert leaf.dtype == jnp.float32
                assert letter != "T" or not leaf.weak_type  # rounds carry trust
                found.append(leaf.shape[axes:])
        rest.add(tuple(found))
    assert len(rest) == 1


def check_order(kind: Kind) -> None:
    """A permutation of the peers permutes the results."""
    for seed in SEEDS:
        args = kind.make(P, seed)
        moved = outcome(kind, take(args, kind.takes, kind.order))
        assert_close(moved, take(outcome(kind, args), kind.gives, kind.order))


def check_finite(kind: Kind) -> None:
    """With honest messages, and with one field of every message not a number."""
    for seed in SEEDS if kind.finite else ():
        args = kind.make(P, seed)
        assert_finite(outcome(kind, args))
        if kind.byzantine == "no":
            continue
        position = kind.takes.index("j")
        leaves, structure = jax.tree.flatten(args[position])
        for number, leaf in enumerate(leaves):
            broken = np.array(leaf)
            for sender, value in enumerate(NO_NUMBERS):
                broken[sender] = value
            sent = jax.tree.unflatten(
                structure, replaced(tuple(leaves), number, broken)
            )
            assert_finite(outcome(kind, replaced(args, position, sent)))


def check_absence(kind: Kind, sender: int = 1) -> None:
    """A sender of nothing but non-numbers counts as absent."""
    for seed in SEEDS:
        args = kind.make(P, seed)
        expected = outcome(kind, cut(kind, args, sender))
        for value in NO_NUMBERS:
            got = outcome(kind, poison(kind, args, sender, value))
            assert_finite(got)
            if "E" in kind.takes:  # such a message has bytes as any other
                letters = zip(got, expected, kind.gives, strict=True)
                both = [(x, y) for x, y, letter in letters if letter != "b"]
                assert_close(*zip(*both, strict=True), 1e-6)
                continue
            others = np.arange(P) != sender
            assert_same(*(take(x, kind.gives, others) for x in (got, expected)))


def check_padding_and_runs(kind: Kind, peers: int = 8) -> None:
    """Runs are a batch axis, and masked peers change nothing.

    Two runs of five among ``peers`` peers, the others masked, equal five peers alone.
    """

    def batched(runs: list[tuple]) -> Any:
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
        return outcome(kind, stacked, peers, over_runs=True)

    runs = [kind.make(P, seed) for seed in SEEDS]
    wide = [kind.make(peers, seed + 10) for seed in SEEDS]
    both = batched([pad(kind, *each) for each in zip(runs, wide, strict=True)])
    for r, args in enumerate(runs):
        one = jax.tree.map(lambda leaf, r=r: leaf[r], both)
        assert_close(take(one, kind.gives, range(P)), outcome(kind, args))
    if kind.finite:
        assert_finite(batched(wide))


def check_one_peer(kind: Kind) -> None:
    """One peer among four masked ones equals one peer alone."""
    args = kind.make(1, 0)
    wide = pad(kind, args, kind.make(P, 10))
    alone = outcome(kind, args, peers=1)
    assert_finite(alone)
    assert_close(take(outcome(kind, wide), kind.gives, range(1)), alone)


def check_stepwise(kind: Kind) -> None:
    """Compiled or not; no step may be NaN, not even one that is thrown away."""
    args = kind.make(P, 1)
    with jax.disable_jit():
        slow = jax.tree.map(np.asarray, kind.run(*args))
    assert_close(slow, outcome(kind, args))
