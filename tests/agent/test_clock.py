"""A clock that is wrong for a moment, or was wrong for long."""

import logging

import pytest

from p2p_sac_jax.agent.ops.clock import CONFIRM_S, SteadyClock


class Clocks:
    """A system's two clocks, which a test moves."""

    def __init__(self):
        self.wall_s, self.monotonic_s = 1.7e9, 100.0
        self.steady = SteadyClock(lambda: self.wall_s, lambda: self.monotonic_s)

    def advance(self, seconds, steps=1):
        for _ in range(steps):
            self.wall_s += seconds / steps
            self.monotonic_s += seconds / steps
            now_s = self.steady()
        return now_s


@pytest.mark.parametrize("by_s", [300.0, -300.0, 3e9])
def test_a_jump_of_a_moment_does_not_count(by_s, caplog):
    clocks = Clocks()
    assert clocks.advance(5.0) == pytest.approx(1.7e9 + 5)
    clocks.wall_s += by_s
    assert clocks.advance(2.0, steps=10) == pytest.approx(1.7e9 + 7)
    clocks.wall_s -= by_s
    assert clocks.advance(60.0, steps=10) == pytest.approx(1.7e9 + 67)
    assert [r.getMessage() for r in caplog.records] == ["clock has jumped"]
    assert caplog.records[0].data["by_s"] == by_s


@pytest.mark.parametrize("by_s", [300.0, -300.0])
def test_a_jump_that_lasts_counts(by_s, caplog):
    clocks = Clocks()
    clocks.wall_s += by_s
    clocks.steady()
    assert clocks.advance(CONFIRM_S - 1, steps=9) == pytest.approx(1.7e9 + 29)
    assert clocks.advance(2.0) == pytest.approx(1.7e9 + 31 + by_s)
    assert caplog.records[-1].getMessage() == "clock is set to where it jumped"
    assert caplog.records[-1].levelno == logging.WARNING


def test_slow_corrections_are_followed():
    clocks = Clocks()
    for _ in range(100):
        clocks.wall_s += 0.9
        clocks.advance(1.0)
    assert clocks.steady() == pytest.approx(1.7e9 + 190)
