"""Random tabular MDPs and their fixed points in float64, independent of the package."""

from typing import NamedTuple

import numpy as np


class Mdp(NamedTuple):
    transition: np.ndarray  # [S, N, S]
    reward: np.ndarray  # [S, N]
    alive: np.ndarray  # [S] 1, or 0 for a terminal state


def random_mdp(rng, states, actions, terminals=0):
    """The last ``terminals`` states end an episode; their own rows are never read."""
    transition = rng.dirichlet(np.ones(states), size=(states, actions))
    reward = rng.uniform(0.0, 1.0, (states, actions))
    alive = (np.arange(states) < states - terminals).astype(np.float64)
    return Mdp(transition, reward, alive)


def soft_value(q, alpha):
    """α log Σ exp(q/α) over actions, the hard maximum for α = 0."""
    top = q.max(axis=-1, keepdims=True)
    if alpha == 0:
        return top[..., 0]
    return top[..., 0] + alpha * np.log(np.exp((q - top) / alpha).sum(axis=-1))


def soft_policy(q, alpha):
    """Chances of actions [S, N]: softmax(q/α)."""
    weight = np.exp((q - q.max(axis=-1, keepdims=True)) / alpha)
    return weight / weight.sum(axis=-1, keepdims=True)


def backup(mdp, discount, following, reward=None):
    """q [S, N] = r + discount Σ_t P(t|s,a) · alive(t) · following(t)."""
    reward = mdp.reward if reward is None else reward
    return reward + discount * mdp.transition @ (mdp.alive * following)


def solve(mdp, discount, alpha, mix=lambda v: v, reward=None, sweeps=600):
    """Fixed point of the backup of ``mix(soft_value(q))``, by value iteration."""
    q = np.zeros_like(mdp.reward)
    for _ in range(sweeps):
        following = np.asarray(mix(soft_value(q, alpha)), np.float64)
        updated = backup(mdp, discount, following, reward)
        if np.abs(updated - q).max() < 1e-9:
            return updated
        q = updated
    return q
