"""Plain NumPy references of what leaves a peer: loops over groups and records."""

from __future__ import annotations

import math

import numpy as np

SCALE = (1.0, 4.0, 2.0, 1.0, 0.5, 0.5)
BOUND = 2.75


def bounded_record(features, log_sales):
    """One week's ``u = (D x, c z)``, scaled down to the bound, float64."""
    scale = SCALE if len(features) == 6 else SCALE[:2] + SCALE[3:]
    record = [d * x for d, x in zip(scale, features, strict=True)]
    record = np.array([*record, 0.7 * log_sales], np.float64)
    norm = math.sqrt(sum(record**2))
    return record * BOUND / norm if norm > BOUND else record


def group_values(insight, visits, per_group, clip, min_count):
    """Clipped means ``[G]`` of values normalised over the groups shown, and steps."""
    value, count, valid = insight.state_value, insight.count, insight.valid
    cells = len(value)
    groups = math.ceil(cells / per_group)
    steps = np.zeros(groups)
    for k in range(cells):
        steps[k // per_group] += visits[k]
    shown = [k for k in range(cells) if valid[k] and steps[k // per_group] >= min_count]
    total = sum(count[k] for k in shown)
    centre = sum(count[k] * value[k] for k in shown) / total
    scale = math.sqrt(sum(count[k] * (value[k] - centre) ** 2 for k in shown) / total)
    out = np.zeros(groups)
    for g in range(groups):
        own = [k for k in shown if k // per_group == g]
        if own:
            mean = sum(count[k] * (value[k] - centre) / scale for k in own)
            mean /= sum(count[k] for k in own)
            out[g] = min(max(mean, -clip), clip)
    return out, steps


def mean_prior(means, noise_variance, base_mean, base_variance, spread):
    """Prior by the mean of ``n`` neighbours, one coefficient after the other."""
    n = len(means)
    mean, variance = [], []
    for f in range(len(base_mean)):
        mean_variance = (spread[f] + noise_variance[f]) / n
        own = base_variance[f] - spread[f]
        average = sum(m[f] for m in means) / n
        weight = own / (own + mean_variance)
        mean.append(base_mean[f] + weight * (average - base_mean[f]))
        variance.append(spread[f] + own * mean_variance / (own + mean_variance))
    return np.array(mean), np.array(variance)
