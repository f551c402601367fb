"""Figures, their frames, bands and numbers as text."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from p2p_sac_jax.config import ExchangeConfig, TrainConfig
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.report import figures, labels, peers, row_figures, write_report
from p2p_sac_jax.report import learning_curves as learning
from p2p_sac_jax.report.frame import frame
from p2p_sac_jax.report.sweep_data import load_sweep_data
from p2p_sac_jax.report.theme import look as look_of
from tests.helpers.pages import check_page
from tests.helpers.sweeps import write_sweep


def test_far_outliers_do_not_squeeze_a_forest():
    look = look_of("an arm", "an arm")
    near = row_figures.Mark("near", look, 0.01, 0.008, 0.011)
    far = row_figures.Mark("far", look, -0.3, -0.32, -0.28, compared=False)
    points = figures.Quantity("difference", "points")
    svg = row_figures.rows("Two", [near, far], points).svg
    assert ">far (−30)<" in svg
    assert ">−10<" not in svg  # no tick that far out
    both = [near, far._replace(compared=True)]
    assert ">−30<" in row_figures.rows("Two", both, points).svg


def test_an_axis_shows_what_is_compared():
    """Plain SAC, and what is not learned yet, do not stretch it; both are named."""
    x, look = np.arange(100.0), look_of("ours", "ours")
    ours = figures.line(look, x, np.where(x < 5, 0.2, 0.97 + 0.0001 * x))
    plain = figures.line(look._replace(label="plain"), x, 0.6 + 0.002 * x)
    plain = plain._replace(compared=False)
    axes = figures.Quantity("week", "week"), figures.Quantity("share", "share")
    levels = [figures.Level("best", 1.0), figures.Level("usual", 0.9)]
    figure = figures.lines("Zoom", [ours, plain], *axes, levels=levels)
    assert figure.outside == (
        "Reaching out of the frame: ours (20.0\u00a0% to 98.0\u00a0%), "
        "plain (60.0\u00a0% to 79.8\u00a0%), best (100.0\u00a0%), usual (90.0\u00a0%)."
    )
    for words in (
        "plain ↓ 79.8",
        "best ↑ 100.0",
        "usual ↓ 90.0",
        ">ours<",
        ">98\u00a0%<",
    ):
        assert words in figure.svg
    assert ">95\u00a0%<" not in figure.svg
    both = [ours, plain._replace(compared=True)]
    assert "plain (" not in figures.lines("Zoom", both, *axes, levels=levels).outside


def test_a_line_at_one_place_without_a_figure_is_left_out():
    look, x = look_of("ours", "ours"), np.zeros(2)
    lost = figures.line(look._replace(label="lost"), x, np.full(2, np.nan))
    axes = figures.Quantity("bytes", "bytes"), figures.Quantity("share", "share")
    svg = figures.lines("Lost", [figures.line(look, x, x + 0.9), lost], *axes).svg
    assert ">ours<" in svg
    assert ">lost<" not in svg


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(-1e6, 1e6))
@settings(deadline=None, max_examples=50)
def test_a_frame_holds_all_that_is_compared(values, other):
    low, high = frame([np.array(values)], [np.array([other])])
    assert low < min(values) <= max(values) < high
    span = max(max(values) - min(values), 0.01 * abs(max(values)), 1e-9)
    assert high - low < 2.3 * span


def test_censored_points_are_drawn_at_the_end():
    look = look_of("an arm", "an arm")
    never = np.array([np.inf, 40.0])
    trace = figures.Trace(look, np.arange(2.0), never, never, never)
    axes = figures.Quantity("peers"), figures.Quantity("weeks", "steps")
    ticks = {0.0: "1", 1.0: "2"}
    svg = figures.lines("Weeks", [trace], *axes, ticks=ticks, end=52.0).svg
    assert ">end<" in svg
    assert "an arm, peers 1: never" in svg
    assert "At the end: an arm 40." in figures.ends([trace], "steps")


def test_rows_as_text():
    row = {"measure": "final", "seeds": 5, "iqm": 0.968, "low": 0.96, "high": 0.97}
    assert labels.estimate(row) == "96.8\u00a0% [96.0, 97.0]"
    assert labels.estimate(row | {"low": None, "high": None}) == "96.8\u00a0%"
    steps = {"measure": "steps_to_0.95", "seeds": 5, "iqm": None, "median": np.inf}
    assert labels.estimate(steps | {"low": 52.0, "high": np.inf}) == "never [52, never]"
    assert labels.estimate(None) == labels.difference(None) == "–"
    ratio = {"measure": "steps_to_0.95", "pairs": 5, "ratio": 3.0, "ratio_low": 2.0}
    assert (
        labels.difference(ratio | {"ratio_high": np.inf})
        == "3.0 times [2.0, unbounded]"
    )


def test_band_agrees_with_the_interval_of_one_place():
    values = np.random.default_rng(3).normal(0.9, 0.05, (8, 5))
    middle, low, high = learning.band(values)
    for place in range(5):
        exact = statistics.estimate(values[:, place])
        trimmed = stats.trim_mean(values[:, place], 0.25)
        np.testing.assert_allclose(middle[place], trimmed)
        # A tail of a thousand resamples of an IQM whose spread is about .02.
        np.testing.assert_allclose(low[place], exact.low, atol=0.008)
        np.testing.assert_allclose(high[place], exact.high, atol=0.008)
    alone = learning.band(values[:1])
    np.testing.assert_array_equal(alone, [values[0]] * 3)


def test_the_headline_is_among_single_peers(tmp_path):
    """Also where its graph is that of another point, or more points than lines."""
    swept = {"exchange.topology": ["complete", "ring", "star", "torus", "line"]}
    swept |= {"exchange.interval": [2, 4]}
    config = TrainConfig(steps=24, evaluate_every=4)
    config = dataclasses.replace(config, exchange=ExchangeConfig(topology="line"))
    data = load_sweep_data(write_sweep(tmp_path / "s", swept, seeds=1, config=config))
    assert (
        f"final, {data.headline().look.label}"
        in peers.worst(data).content["table"].columns
    )


def test_a_network_of_one_peer_is_the_isolated_arm(tmp_path):
    swept = {"population.peers": [1]}
    data = load_sweep_data(write_sweep(tmp_path / "one", swept, seeds=1))
    assert data.repeated == {"network, 1 peer": "own memory, 1 peer"}
    assert data.main == data.control == "memory"
    assert [point.arm for point in data.panels()[""]] == ["memory"]
    assert (
        "no arm to compare it with" in check_page(write_report(tmp_path / "one")).words
    )
