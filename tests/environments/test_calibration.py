"""Demand estimation, the shipped table and the populations drawn from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.commands import calibrate
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments import calibration, estimation
from tests.reference.estimation import reml_tau, simulate_panel

TRUE = np.array([3.0, -2.5, 0.8, 0.4, 0.2, 0.12, -0.05, 0.1])


def brand_one(table):
    rows = table["brand"] == 1
    return {name: column[rows] for name, column in table.items()}


def test_noise_free_panel_is_recovered():
    table = brand_one(
        estimation.estimate_table(simulate_panel(0, (5, 7, 9), 104, TRUE))
    )
    assert table["store"].tolist() == [5, 7, 9]
    assert table["held_out"].tolist() == [0, 0, 1]
    for name, value in (
        ("elasticity_ols", -2.5),
        ("elasticity", -2.5),
        ("cross_elasticity", 0.8),
        ("unit_cost", 0.7),
        ("season_amplitude", 0.13),
        ("season_phase", np.arctan2(-0.05, 0.12)),
        ("reference_effect", 0.0),
        ("demand_noise", 0.0),
        ("r2", 1.0),
    ):
        np.testing.assert_allclose(table[name], value, atol=1e-9, err_msg=name)


def test_noise_and_reference_effect_are_recovered():
    panel = simulate_panel(1, range(6), 400, TRUE, reference=0.6, noise=0.3)
    table = brand_one(estimation.estimate_table(panel))
    np.testing.assert_allclose(table["reference_effect"], 0.6, atol=0.15)
    plain = simulate_panel(2, range(6), 400, TRUE, noise=0.3)
    table = brand_one(estimation.estimate_table(plain))
    errors = (table["elasticity_ols"] + 2.5) / table["elasticity_se"]
    assert np.abs(errors).max() < 3.5
    np.testing.assert_allclose(table["demand_noise"], 0.3, rtol=0.15)


def test_least_squares_agrees_with_the_normal_equations():
    rng = np.random.default_rng(3)
    design, target = rng.normal(size=(40, 3)), rng.normal(size=40)
    fit = estimation.least_squares(design, target)
    inverse = np.linalg.inv(design.T @ design)
    coef = inverse @ design.T @ target
    residual = target - design @ coef
    np.testing.assert_allclose(fit.coef, coef, rtol=1e-9)
    np.testing.assert_allclose(
        fit.se, np.sqrt(np.diag(inverse) * (residual @ residual) / 37), rtol=1e-9
    )
    np.testing.assert_allclose(fit.r2, 1 - residual.var() / target.var(), atol=0.05)
    assert estimation.least_squares(design[:3], target[:3]) is None
    assert estimation.least_squares(design[:, [0, 0]], target) is None


def test_bad_rows_are_dropped_and_poor_series_left_out():
    panel = simulate_panel(0, (5, 7, 9), 104, TRUE)
    units, prices = panel.log_units.copy(), panel.prices.copy()
    rows = np.flatnonzero((panel.store == 5) & (panel.brand == 1))
    units[rows[0]], prices[rows[1], 2] = np.nan, 0.0
    short = (panel.store == 7) & (panel.brand == 1) & (panel.week >= 140)
    prices[(panel.store == 9), 0] = 1.0  # a price that never moves has no elasticity
    broken = panel._replace(log_units=units, prices=prices)
    table = brand_one(estimation.estimate_table(_take(broken, ~short)))
    assert table["store"].tolist() == [5]
    assert table["weeks"].tolist() == [102]
    np.testing.assert_allclose(table["elasticity_ols"], -2.5, atol=1e-9)
    with pytest.raises(ValueError, match="no store x brand"):
        estimation.estimate_table(_take(panel, panel.week < 120))


@pytest.mark.parametrize("number", [-1, 1, 100])
def test_brands_without_a_column_of_prices_are_refused(number):
    panel = simulate_panel(0, (5, 7), 60, TRUE)
    panel = panel._replace(brand=panel.brand + number)
    with pytest.raises(ValueError, match=r"brand=\d+ must be 1 to \d, as its price"):
        estimation.estimate_table(panel)


def _take(panel, rows):
    return estimation.Panel(*(column[rows] for column in panel))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    st.floats(0.1, 2.0),
)
def test_shrinkage_with_equal_errors_has_a_closed_form(values, se):
    estimate = np.array(values)
    tau2 = max(0.0, estimate.var(ddof=1) - se**2)
    result = estimation.shrink(estimate, np.full(6, se))
    weight = tau2 / (tau2 + se**2)
    np.testing.assert_allclose(result.tau**2, tau2, atol=1e-9)
    np.testing.assert_allclose(
        result.values, (1 - weight) * estimate.mean() + weight * estimate, atol=1e-8
    )
    np.testing.assert_allclose(result.mean_se, np.sqrt((tau2 + se**2) / 6), rtol=1e-8)


def test_shrinkage_maximises_the_restricted_likelihood():
    table = brand_one(calibration.load_table())
    estimate, se = table["elasticity_ols"], table["elasticity_se"]
    result = estimation.shrink(estimate, se)
    np.testing.assert_allclose(result.tau, reml_tau(estimate, se), atol=1e-6)
    np.testing.assert_allclose(result.values, table["elasticity"], atol=1e-6)


def test_ar1_recovers_a_long_series_across_gaps():
    rng = np.random.default_rng(4)
    x = np.zeros(20_000)
    for t in range(1, len(x)):
        x[t] = 0.8 * x[t - 1] + 0.1 * rng.normal()
    kept = np.flatnonzero(rng.random(len(x)) > 0.2)
    sd, rho = estimation.ar1(7.0 + x[kept], kept)
    np.testing.assert_allclose((sd, rho), (0.1 / 0.6, 0.8), atol=0.015)
    assert estimation.ar1(np.full(60, 2.0), np.arange(60)) == (0.0, 0.0)
    assert estimation.ar1(x[:60], np.arange(0, 120, 2)) == (0.0, 0.0)
    assert estimation.ar1((-1.0) ** np.arange(60), np.arange(60))[1] == 0.0


def test_reference_level_repeats_the_last_price_over_a_gap():
    price = np.array([0.3, -0.3, 0.6])
    level = estimation.reference_level(price, np.array([1, 2, 5]))
    second = 0.7 * 0.2 + 0.3 * 0.3
    third = second
    for _ in range(3):
        third = 0.7 * third - 0.3 * 0.3
    np.testing.assert_allclose(level, [0.2, second, third])


def test_standardise_fills_missing_entries_with_the_mean():
    np.testing.assert_allclose(
        estimation.standardise(np.array([1.0, np.nan, 3.0])), [-1.0, 0.0, 1.0]
    )
    np.testing.assert_array_equal(estimation.standardise(np.full(3, np.nan)), 0.0)
    np.testing.assert_array_equal(estimation.standardise(np.full(3, 2.0)), 0.0)


def test_table_is_whole_and_sorted():
    table = calibration.load_table()
    assert (*estimation.COLUMNS, *calibration.DEMOGRAPHICS) == tuple(table)
    assert all(np.isfinite(column).all() for column in table.values())
    key = table["store"] * 100 + table["brand"]
    assert len(key) == 83 * 11
    assert (np.diff(key) > 0).all()
    held_out = np.unique(table["store"][table["held_out"] == 1])
    np.testing.assert_array_equal(held_out, np.unique(table["store"])[2::3])
    assert calibration.format_table(table) == calibration.format_table(
        calibration.parse_table(calibration.format_table(table))
    )


@pytest.mark.parametrize(
    ("brand", "elasticity"), [(1, -2.68), (2, -1.65), (5, -3.13), (6, -2.06)]
)
def test_brand_means_agree_with_the_expected_figures(brand, elasticity):
    table = calibration.load_table()
    rows = table["brand"] == brand
    result = estimation.shrink(
        table["elasticity_ols"][rows], table["elasticity_se"][rows]
    )
    assert abs(result.mean - elasticity) < 2 * result.mean_se
    if brand == 1:
        np.testing.assert_allclose(
            (result.mean_se, result.tau), (0.05, 0.41), atol=0.01
        )
        ratio = table["reference_effect"][rows][0] / -result.mean
        np.testing.assert_allclose(ratio, 0.21, atol=0.02)


@pytest.mark.parametrize(
    ("column", "low", "high", "atol"),
    [
        ("demand_noise", 0.20, 0.79, 0.01),
        ("season_amplitude", 0.03, 0.33, 0.01),
        ("cost_vol", 0.09, 0.19, 0.01),
        ("cost_persistence", 0.49, 0.97, 0.03),
    ],
)
def test_quantiles_agree_with_the_expected_figures(column, low, high, atol):
    values = calibration.load_table()[column]
    np.testing.assert_allclose(
        np.quantile(values, [0.05, 0.95]), [low, high], atol=atol
    )


def test_remaining_figures_lie_where_expected():
    table = calibration.load_table()
    by_brand = [table["brand"] == brand for brand in range(1, 12)]
    r2 = np.array([table["r2"][rows].mean() for rows in by_brand])
    assert ((r2 > 0.595) & (r2 < 0.76)).all()
    assert abs(table["unit_cost"].mean() - 0.7) < 0.02
    assert abs(table["rival_vol"].mean() - 0.10) < 0.01
    assert abs(table["rival_persistence"].mean() - 0.75) < 0.02
    inelastic = (table["elasticity"][by_brand[10]] > -1).mean()
    assert 0.3 < inelastic < 0.4
    means = np.array([table["elasticity"][rows].mean() for rows in by_brand[:10]])
    assert means[[2, 3, 5, 6, 7, 8, 9]].min() > -4.0
    assert means[[2, 3, 5, 6, 7, 8, 9]].max() < -2.04


@pytest.mark.parametrize("name", ["chain", "brands"])
@pytest.mark.parametrize(
    ("peers", "held_out", "newcomers"),
    [(1, False, 0), (16, False, 4), (56, False, 0), (27, True, 0), (83, False, 27)],
)
def test_populations(name, peers, held_out, newcomers):
    market = calibration.select_population(name, peers, held_out, newcomers)
    again = calibration.select_population(name, peers, held_out, newcomers)
    for field, value, other in zip(market._fields, market, again, strict=True):
        np.testing.assert_array_equal(value, other)
        assert value.shape[0] == peers
        assert value.dtype == (np.int32 if field in ("store", "brand") else np.float32)
        assert np.isfinite(value).all()
    assert market.context.shape == (peers, len(calibration.CONTEXT))
    assert len(np.unique(market.store)) == peers
    table = calibration.load_table()
    reserved = np.isin(market.store, table["store"][table["held_out"] == 1])
    expected = np.arange(peers) >= peers - newcomers
    np.testing.assert_array_equal(reserved, held_out | expected)
    assert (market.elasticity < -1).all()
    assert (market.cost_vol <= 0.3).all()
    assert (market.reference_ratio >= 0).all()
    brands = set(market.brand.tolist())
    assert brands == ({1} if name == "chain" else brands & set(range(1, 11)))
    if name != "chain" and peers - newcomers >= 10:
        assert brands == set(range(1, 11))


def test_populations_span_the_elasticities():
    whole = calibration.select_population("chain", 56)
    some = calibration.select_population("chain", 16)
    quantiles = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(
        np.quantile(some.elasticity, quantiles),
        np.quantile(whole.elasticity, quantiles),
        atol=0.1,
    )
    mixed = calibration.select_population("brands", 20)
    pairs = [mixed.elasticity[mixed.brand == brand] for brand in range(1, 11)]
    assert all(pair.size == 2 and np.ptp(pair) > 0.05 for pair in pairs)


def test_reference_ratio_is_a_multiple_of_alpha():
    market = calibration.select_population("chain", 56)
    assert abs(float(np.median(market.reference_ratio)) - 0.21) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chain", 57), r"population\.peers=57 must lie between 1 and 56"),
        (("chain", 0), r"population\.peers=0 must lie between 1 and 56"),
        (("chain", 28, True), r"population\.peers=28 must lie between 1 and 27"),
        (("brands", 61, False, 4), r"population\.peers=61 .* 1 and 60"),
        (("brands", 40, False, 28), r"population\.newcomers=28 must be at most 27"),
        (("chain", 4, False, 5), r"population\.newcomers=5 .* population\.peers=4"),
    ],
)
def test_impossible_populations_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        calibration.select_population(*arguments)
    assert "\n" not in str(error.value)


def test_names():
    market = calibration.select_population("chain", 2)
    assert calibration.market_names(market) == [
        f"store {store} · brand 1" for store in market.store
    ]


@pytest.mark.evidence
def test_table_regenerates_from_the_package(tmp_path):
    pytest.importorskip("rdata")
    try:
        rda = calibrate.unpack(calibrate.download(str(tmp_path)), str(tmp_path))
    except ConfigError as error:
        pytest.skip(str(error))
    table = calibrate.make_table(rda)
    assert calibrate.largest_difference(table, calibration.load_table()) <= 1e-6


def test_a_damaged_source_is_refused_in_one_line(tmp_path):
    """Whatever a flipped byte of a compressed file makes its reader raise."""
    rdata = pytest.importorskip("rdata")
    path = tmp_path / "orangeJuice.rda"
    rdata.write_rda(str(path), {"orangeJuice": {"yx": np.arange(200.0)}})
    whole = path.read_bytes()
    for position in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(bytes(damaged))
        with pytest.raises(ConfigError, match="is not bayesm's orange juice data"):
            calibrate.make_table(path)


def _drawn_stores(name, peers, seed, **kept):
    sellers = calibration.select_population(
        name, peers, draw="random", seed=seed, **kept
    )
    return sellers.store.tolist()


@pytest.mark.parametrize("name", ["chain", "brands"])
def test_a_seed_draws_its_stores_and_its_held_out_stores(name):
    times = {}
    for seed in range(60):
        stores = _drawn_stores(name, 16, seed)
        assert stores == _drawn_stores(name, 16, seed)
        assert stores == sorted(set(stores))
        assert not set(stores) & set(_drawn_stores(name, 20, seed, held_out=True))
        newcomers = _drawn_stores(name, 16, seed, newcomers=4)[12:]
        assert set(newcomers) <= set(_drawn_stores(name, 27, seed, held_out=True))
        for store in stores:
            times[store] = times.get(store, 0) + 1
    # Every store is drawn, and none much more often than the others.
    assert len(times) > 80
    assert max(times.values()) < 3 * 60 * 16 / len(times)


def test_random_brands_keep_their_turns():
    sellers = calibration.select_population("brands", 20, draw="random", seed=4)
    assert np.bincount(sellers.brand)[1:].tolist() == [2] * 10
