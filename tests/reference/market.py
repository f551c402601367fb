"""Independent float64 NumPy market, brute-force searches and dynamic programs."""

from __future__ import annotations

import numpy as np

S0 = 0.2
LOW, HIGH = 1 / 1.5, 1.5


def share(p, week, x, y, r, price, alpha=None, shift=0.0):
    """Expected share at ``price``, straight from the demand equations."""
    alpha = p["alpha"] if alpha is None else alpha
    s_c, angle = p["rival_share"], 2 * np.pi * week / 52
    a = np.log(S0 / (1 - S0 - s_c)) + alpha
    a_c = np.log(s_c / (1 - S0 - s_c)) + alpha
    alpha_t = alpha * (
        1 + p["sensitivity_swing"] * np.cos(angle - p["season_phase"] - 1)
    )
    u = a + shift + p["season_amplitude"] * np.cos(angle - p["season_phase"])
    u = u - alpha_t * price + (alpha_t - alpha) - p["reference_effect"] * (price - r)
    return np.exp(u) / (1 + np.exp(u) + np.exp(a_c - alpha * np.exp(y)))


def profit(p, week, x, y, r, price, alpha=None, shift=0.0):
    """Expected profit over that of a usual week."""
    cost = p["unit_cost"] * np.exp(x)
    sold = share(p, week, x, y, r, price, alpha, shift)
    return (price - cost) * sold / ((1 - p["unit_cost"]) * S0)


def week_step(p, s, action, noise):
    """One week: next state, reward and sales, with the noise given."""
    price = np.exp(np.log(1.5) * action)
    sigma = p["demand_noise"]
    args = (p, s["week"], s["x"], s["y"], s["r"], price, s["alpha"], s["shift"])
    shock = np.exp(sigma * noise.demand - sigma**2 / 2)
    sold, reward = share(*args) * shock, profit(*args) * shock
    log_sales = np.log(sold / S0)
    jumps = float(noise.regime) < p["regime_hazard"]

    def ar1(value, rho, vol, eps):
        return rho * value + vol * np.sqrt(1 - rho**2) * eps

    following = {
        "week": s["week"] + 1,
        "x": ar1(s["x"], p["cost_persistence"], p["cost_vol"], noise.cost),
        "y": ar1(s["y"], p["rival_persistence"], p["rival_vol"], noise.rival),
        "r": 0.7 * s["r"] + 0.3 * price,
        "alpha": s["alpha"] * np.exp(jumps * 0.15 * noise.sensitivity_jump),
        "shift": s["shift"] + jumps * 0.2 * noise.shift_jump,
        "last_price": price,
        "log_sales": log_sales,
        "mean": 0.8 * s["mean"] + 0.2 * np.clip(log_sales, -3, 3),
        "reward": reward,
    }
    return following, reward, log_sales


def observation(p, s):
    """The eleven observed numbers of a state."""
    angle = 2 * np.pi * s["week"] / 52
    return np.array(
        [
            np.cos(angle),
            np.sin(angle),
            4 * (p["unit_cost"] * np.exp(s["x"]) - 0.7),
            4 * s["y"],
            4 * (s["r"] - 1),
            4 * np.log(s["last_price"]),
            0.5 * np.clip(s["log_sales"], -3, 3),
            0.5 * s["mean"],
            s["reward"],
            0.0,
            1.0,
        ]
    )


def best_price(earn, low=LOW, high=HIGH, points=4001):
    """Brute force: (price, profit, grid spacing) of the best price on a grid."""
    grid = np.linspace(low, high, points)
    earned = earn(grid)
    return grid[earned.argmax()], earned.max(), grid[1] - grid[0]


def reference_price_values(p, x, y, references, prices, discount, sweeps, weeks=52):
    """Value iteration by plain loops; ``x``, ``y`` are (states, transition)."""
    value = np.zeros((len(x[0]), len(y[0]), len(references)))
    policy = np.zeros((weeks, *value.shape))
    for week in [w for _ in range(sweeps) for w in reversed(range(weeks))]:
        expected = np.einsum("ix,jy,xym->ijm", x[1], y[1], value)
        for i, xi in enumerate(x[0]):
            for j, yj in enumerate(y[0]):
                for m, r in enumerate(references):
                    following = 0.7 * r + 0.3 * prices
                    total = profit(p, week, xi, yj, r, prices) + discount * np.interp(
                        following, references, expected[i, j]
                    )
                    value[i, j, m] = total.max()
                    policy[week, i, j, m] = prices[total.argmax()]
    return policy, value
