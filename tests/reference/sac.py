"""NumPy (float64) reference of the SAC losses, Adam and Polyak averaging."""

import numpy as np


def to_numpy(tree):
    if isinstance(tree, dict):
        return {name: to_numpy(leaf) for name, leaf in tree.items()}
    return np.asarray(tree, np.float64)


def mlp(layers, x):
    """Dense layers with relu between; ``layers`` is a list of {kernel, bias}."""
    for layer in layers[:-1]:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0.0)
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def actor(params, obs):
    head = mlp([params["Dense_0"], params["Dense_1"], params["head"]], obs)
    mean, raw = np.split(head, 2, axis=-1)
    return mean, -5.0 + 3.0 * (np.tanh(raw) + 1.0)


def critic(params, obs, action):
    """Q [2, B], one network after the other."""
    inputs = np.concatenate([obs, action], axis=-1)
    values = []
    for k in range(2):
        layers = [
            {name: leaf[k] for name, leaf in params[f"Dense_{i}"].items()}
            for i in range(3)
        ]
        values.append(mlp(layers, inputs)[:, 0])
    return np.stack(values)


def squash(mean, log_std, noise):
    """Action and log-density by the plain change of variables."""
    pre_tanh = mean + np.exp(log_std) * noise
    action = np.tanh(pre_tanh)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return action, (gaussian - np.log(1.0 - action**2)).sum(-1)


def losses(params, frozen, target_params, batch, noise, hyper, bootstrap):
    """The three losses; ``noise`` is [2, B, A] for s and s'.

    What each loss must not move is read from ``frozen``, so that finite differences
    in ``params`` see exactly the stops in the gradient.
    """
    action, log_prob = squash(*actor(params["actor"], batch["obs"]), noise[0])
    _, frozen_log_prob = squash(*actor(frozen["actor"], batch["obs"]), noise[0])
    next_action, next_log_prob = squash(
        *actor(frozen["actor"], batch["next_obs"]), noise[1]
    )
    alpha = np.exp(frozen["log_alpha"])
    next_q = critic(target_params, batch["next_obs"], next_action).min(0)
    next_value = bootstrap(next_q - alpha * next_log_prob, batch["next_obs"])
    target = batch["reward"] + hyper["discount"] * batch["discount"] * next_value

    q = critic(params["critic"], batch["obs"], batch["action"])
    policy_q = critic(frozen["critic"], batch["obs"], action).min(0)
    return {
        "critic_loss": ((q - target) ** 2).sum(0).mean(),
        "actor_loss": (alpha * log_prob - policy_q).mean(),
        "alpha_loss": -np.exp(params["log_alpha"])
        * (frozen_log_prob + hyper["target_entropy"]).mean(),
        "alpha": alpha,
        "entropy": -log_prob.mean(),
        "q_mean": q.mean(),
        "td_error": np.abs(q - target).mean(),
    }


def adam(param, grads, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """``param`` after one Adam step (Kingma & Ba 2015) per entry of ``grads``."""
    first, second = np.zeros_like(param), np.zeros_like(param)
    for t, grad in enumerate(grads, start=1):
        first = b1 * first + (1 - b1) * grad
        second = b2 * second + (1 - b2) * grad**2
        corrected = first / (1 - b1**t), second / (1 - b2**t)
        param = param - learning_rate * corrected[0] / (np.sqrt(corrected[1]) + eps)
    return param
