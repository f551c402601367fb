"""NumPy (float64) re-implementations of the control tasks, written from the source.

Pendulum follows the text of OpenAI Gym's Pendulum-v1; the LQR follows its equations.
"""

import numpy as np


def pendulum_step(theta, theta_dot, action, m=1.0, l=1.0):  # noqa: E741
    """One step of Pendulum-v1 (g = 10, dt = .05): next theta, theta_dot, reward."""
    g, dt = 10.0, 0.05
    u = np.clip(2.0 * action, -2.0, 2.0)
    normalised = ((theta + np.pi) % (2 * np.pi)) - np.pi
    cost = normalised**2 + 0.1 * theta_dot**2 + 0.001 * u**2
    new_dot = theta_dot + (3 * g / (2 * l) * np.sin(theta) + 3.0 / (m * l**2) * u) * dt
    new_dot = np.clip(new_dot, -8, 8)
    return theta + new_dot * dt, new_dot, -cost


def lqr_cost(a, b, q, r, gain, start, noise):
    """Cost of each step of x' = A x + B u + w with u = clip(-gain x, -1, 1)."""
    x, costs = np.array(start, float), []
    for w in noise:
        u = np.clip(-gain @ x, -1.0, 1.0)
        costs.append(x @ q @ x + u @ r @ u)
        x = a @ x + b @ u + w
    return np.array(costs)
