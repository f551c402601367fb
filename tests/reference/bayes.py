"""Plain float64 NumPy references of the Bayesian models; loops, no cleverness."""

from __future__ import annotations

import numpy as np


def demand_posterior(features, log_sales, weights, mean, covariance, steps=4):
    """Posterior by augmented least squares on the rows themselves.

    Returns mean [F], covariance [F, F] and noise variance after ``steps`` fixed-point
    steps from .45², with the prior guess worth 5 steps.
    """
    root = np.linalg.cholesky(np.linalg.inv(covariance.astype(np.float64))).T
    scale = np.sqrt(weights)

    def solve(variance):
        sigma = np.sqrt(variance)
        rows = np.vstack([features * scale[:, None] / sigma, root])
        target = np.concatenate(
            [(log_sales + variance / 2) * scale / sigma, root @ mean]
        )
        solution = np.linalg.lstsq(rows, target, rcond=None)[0]
        return solution, np.linalg.inv(rows.T @ rows)

    variance = 0.45**2
    for _ in range(steps):
        theta, spread = solve(variance)
        error = log_sales - (features @ theta - variance / 2)
        ignorance = np.einsum("nf,fg,ng->n", features, spread, features)
        total = 5 * 0.45**2 + np.sum(weights * (error**2 + ignorance))
        variance = total / (5 + np.sum(weights))
    return *solve(variance), variance


def binned_posterior(count, total, noise_variance):
    """Gaussian-process regression on bin averages with noise variance / count."""
    centres = np.linspace(-1, 1, len(count))
    prior = 0.3**2 * np.exp(-0.5 * ((centres[:, None] - centres) / 0.35) ** 2)
    seen = count > 0
    average = total[seen] / count[seen]
    gram = prior[np.ix_(seen, seen)] + np.diag(noise_variance / count[seen])
    gain = np.linalg.solve(gram, prior[seen]).T  # [K, seen]
    return 1 + gain @ (average - 1), prior - gain @ prior[seen]


SPREAD = np.array([0.05, 0.3, 0.1, 0.1, 0.02, 0.02])
FLOOR = np.array([0.04, 0.15, 0.05, 0.05, 0.01, 0.01])


def neighbour_prior(weights, precision, shift, mean, covariance):
    """One receiver's prior: loops over neighbours and EM steps.

    Returns mean [F], covariance [F, F] and the spread T between peers [F].
    """
    size = len(mean)
    keep = list(range(6)) if size == 6 else [0, 1, 3, 4, 5]
    guess, floor = SPREAD[keep], FLOOR[keep]
    cap = np.diag(covariance) / 2
    identity = np.eye(size)

    def centre(spread):
        T = np.diag(spread)
        H = np.linalg.inv(covariance - T)
        total, target = H.copy(), H @ mean
        for w, S, b in zip(weights, precision, shift, strict=True):
            shrink = np.linalg.inv(identity + S @ T)
            total += w * shrink @ S
            target += w * shrink @ b
        return np.linalg.solve(total, target), np.linalg.inv(total)

    spread = np.clip(guess, floor, cap)
    for _ in range(8):
        mu, _ = centre(spread)
        round_info = 4 * guess
        for w, S, b in zip(weights, precision, shift, strict=True):
            own = np.linalg.inv(S + np.diag(1 / spread))
            theta = own @ (b + mu / spread)
            round_info = round_info + w * ((theta - mu) ** 2 + np.diag(own))
        spread = np.clip(round_info / (4 + np.sum(weights)), floor, cap)
    mu, uncertainty = centre(spread)
    return mu, np.diag(spread) + uncertainty, spread


def joint_centre(precision, shift, mean, covariance, spread):
    """Mean and covariance of μ from the joint Gaussian of μ and every θ_j."""
    size, peers = len(mean), len(precision)
    inverse = np.diag(1 / spread)
    H = np.linalg.inv(covariance - np.diag(spread))
    joint = np.zeros(((peers + 1) * size,) * 2)
    target = np.zeros((peers + 1) * size)
    joint[:size, :size] = H + peers * inverse
    target[:size] = H @ mean
    for j in range(peers):
        own = slice((j + 1) * size, (j + 2) * size)
        joint[own, own] = precision[j] + inverse
        joint[own, :size] = joint[:size, own] = -inverse
        target[own] = shift[j]
    inverse_joint = np.linalg.inv(joint)
    return (inverse_joint @ target)[:size], inverse_joint[:size, :size]


def market_features(rng, steps, size=5):
    """Regressors of a random price path, ``[steps, size]`` float32."""
    price = np.exp(rng.uniform(-0.4, 0.4, steps))
    week = 2 * np.pi * np.arange(steps) / 52
    columns = [np.ones(steps), 1 - price]
    if size == 6:
        columns.append(1 + 0.1 * rng.normal(size=steps) - price)
    columns += [0.1 * rng.normal(size=steps), np.cos(week), np.sin(week)]
    return np.stack(columns, axis=-1).astype(np.float32)


def log_sales(rng, features, theta, sigma):
    """Log sales of a demand curve: mean sales are exp(θᵀx), ``[steps]`` float32."""
    noise = sigma * rng.normal(size=len(features)) - sigma**2 / 2
    return (features @ theta + noise).astype(np.float32)
