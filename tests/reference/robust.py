"""NumPy references of robust aggregation: one receiver, float64, plain loops."""

import math

import numpy as np


def byzantine_peers(byzantine_fraction, n):
    """f of n senders, never a majority."""
    return min(math.floor(byzantine_fraction * n + 1e-6), max(n - 1, 0) // 2)


def weighted_median(values, edge_weight):
    """Mean of the least and the greatest point with half the mass on either side."""
    pairs = sorted((v, w) for v, w in zip(values, edge_weight, strict=True) if w > 0)
    if not pairs:
        return 0.0
    half = sum(w for _, w in pairs) / 2

    def is_median(point):
        left = sum(w for v, w in pairs if v <= point)
        right = sum(w for v, w in pairs if v >= point)
        return left >= half * (1 - 1e-9) and right >= half * (1 - 1e-9)

    medians = [v for v, _ in pairs if is_median(v)]
    return (min(medians) + max(medians)) / 2


def trimmed_mean(values, edge_weight, byzantine_fraction):
    """Mean after removing mass f/n from the bottom, then from the top."""
    pairs = sorted([v, w] for v, w in zip(values, edge_weight, strict=True) if w > 0)
    n = len(pairs)
    if n == 0:
        return 0.0
    cut = byzantine_peers(byzantine_fraction, n) / n * sum(w for _, w in pairs)
    for order in (pairs, pairs[::-1]):
        left = cut
        for pair in order:
            taken = min(left, pair[1])
            pair[1] -= taken
            left -= taken
    return sum(v * w for v, w in pairs) / sum(w for _, w in pairs)


def _squares(a, b, mask):
    return float(((a - b) ** 2 * mask[:, None]).sum())


def _mean_square(x, has_data, j, m):
    common = has_data[j] * has_data[m]
    if common.sum() == 0:
        return 1e30
    return _squares(x[j], x[m], common) / (common.sum() * x.shape[-1])


def _average(x, edge_weight):
    """Weighted mean [K, A] over weights [J, K] and where any is positive [K]."""
    out, total = np.zeros(x.shape[1:]), edge_weight.sum(axis=0)
    for k in np.flatnonzero(total > 0):
        out[k] = sum(edge_weight[j, k] * x[j, k] for j in range(len(x))) / total[k]
    return out, total > 0


def _each(x, edge_weight, reduce):
    """``reduce(values, weights)`` of every coordinate."""
    out = np.zeros(x.shape[1:])
    for k, a in np.ndindex(*out.shape):
        out[k, a] = reduce(x[:, k, a], edge_weight[:, k])
    return out, edge_weight.sum(axis=0) > 0


def _median(x, edge_weight, edge, own, knows, byzantine_fraction):
    return _each(x, edge_weight, weighted_median)


def _trimmed(x, edge_weight, edge, own, knows, byzantine_fraction):
    return _each(x, edge_weight, lambda v, w: trimmed_mean(v, w, byzantine_fraction))


def geometric_cost(z, x, edge_weight, edge):
    """Σ_j edge_j ‖x_j - z‖ over the cells of each sender."""
    return sum(
        e * math.sqrt(_squares(x[j], z, edge_weight[j] > 0)) for j, e in enumerate(edge)
    )


def _centred(x, edge_weight, edge, own, knows, byzantine_fraction):
    centre, informed = _median(x, edge_weight, edge, own, knows, byzantine_fraction)
    centre[knows > 0] = own[knows > 0]
    has_data = edge_weight > 0
    distance = np.zeros(len(x))
    for j in np.flatnonzero(has_data.any(axis=1)):
        size = has_data[j].sum() * x.shape[-1]
        distance[j] = math.sqrt(_squares(x[j], centre, has_data[j]) / size)
    radius = weighted_median(distance, edge * has_data.any(axis=1))
    clipped = np.zeros_like(x)
    for j in range(len(x)):
        shrink = 1.0 if distance[j] <= radius else radius / distance[j]
        clipped[j] = shrink * (x[j] - centre)
    moved, _ = _average(clipped, edge_weight)
    return centre + moved, informed


def _scores(x, edge_weight, byzantine_fraction):
    has_data = edge_weight > 0
    informed = [j for j in range(len(x)) if has_data[j].any()]
    n = len(informed)
    nearest = max(n - byzantine_peers(byzantine_fraction, n) - 2, 1)
    scores = {}
    for j in informed:
        others = sorted(_mean_square(x, has_data, j, m) for m in informed if m != j)
        scores[j] = sum(others[:nearest])
    return scores, n - byzantine_peers(byzantine_fraction, n)


def _of_best(x, edge_weight, scores, keep):
    if not scores:
        return np.zeros(x.shape[1:]), np.zeros(x.shape[1], bool)
    worst = sorted(scores.values())[keep - 1]
    chosen = [j for j, s in scores.items() if s <= worst * (1 + 1e-12)]
    kept = np.zeros_like(edge_weight)
    kept[chosen] = edge_weight[chosen]
    return _average(x, kept)


def _krum(x, edge_weight, edge, own, knows, byzantine_fraction):
    return _of_best(x, edge_weight, _scores(x, edge_weight, byzantine_fraction)[0], 1)


def _multi_krum(x, edge_weight, edge, own, knows, byzantine_fraction):
    return _of_best(x, edge_weight, *_scores(x, edge_weight, byzantine_fraction))


def _nearest(x, edge_weight, edge, own, knows, byzantine_fraction):
    has_data = edge_weight > 0
    informed = [j for j in range(len(x)) if has_data[j].any()]
    keep = len(informed) - byzantine_peers(byzantine_fraction, len(informed))
    mixed = np.zeros_like(x)
    for j in informed:
        distance = {m: _mean_square(x, has_data, j, m) for m in informed}
        worst = sorted(distance.values())[keep - 1]
        near = np.zeros_like(edge_weight)
        for m in informed:
            if distance[m] <= worst:
                near[m] = edge_weight[m]
        mixed[j] = _average(x, near)[0]
    return _trimmed(mixed, edge_weight, edge, own, knows, byzantine_fraction)


METHODS = {
    "median": _median,
    "trimmed_mean": _trimmed,
    "krum": _krum,
    "multi_krum": _multi_krum,
    "centred_clipping": _centred,
    "nearest_neighbour": _nearest,
}


def mixing_weights(edge, weight, x):
    """Weights [J, K] of finite values, and the values [J, K, A] with 0 elsewhere."""
    sound = np.isfinite(x).all(axis=-1) & (weight > 0)
    edge_weight = np.where(sound, np.asarray(edge, float)[:, None], 0.0)
    return edge_weight, np.where(sound[..., None], x, 0.0).astype(float)


def aggregate(name, edge, weight, x, own, own_weight, byzantine_fraction):
    """Mean [I, K, A] and mass [I, K], receiver by receiver."""
    means, masses = [], []
    for i in range(len(edge)):
        edge_weight, clean = mixing_weights(edge[i], weight, x)
        mine, knows = mixing_weights(np.ones(len(own)), own_weight, own)
        mean, informed = METHODS[name](
            clean,
            edge_weight,
            edge[i].astype(float),
            knows[i],
            mine[i] > 0,
            byzantine_fraction,
        )
        mass = np.zeros(weight.shape[1])
        for k in np.flatnonzero(informed):
            typical = weighted_median(weight[:, k], edge_weight[:, k])
            mass[k] = edge_weight[:, k].sum() * typical
        means.append(np.where(informed[:, None], mean, 0.0))
        masses.append(mass)
    return np.array(means), np.array(masses)


def demand_outliers(sent, own, prior_mean, prior_variance, spread):
    """Largest standardised distance of each sender, and by how much it is widened.

    Args:
      sent: list of (precision [F, F], shift [F]) of the senders that count in full.
      own: the same of the receiver.
    """
    size, rows = len(prior_mean), [*sent, own]
    largest = np.zeros(len(sent))
    for f in range(size):
        evidence, centres = [], []
        for precision, shift in rows:
            covariance = np.linalg.inv(np.diag(1 / prior_variance) + precision)
            mean = covariance @ (prior_mean / prior_variance + shift)
            e = 1 / covariance[f, f] - 1 / prior_variance[f]
            pull = mean[f] / covariance[f, f] - prior_mean[f] / prior_variance[f]
            evidence.append(e)
            centres.append(pull / e)
        stated = [e / (1 + e * spread[f]) for e in evidence]
        weights = [min(w, np.median(stated)) for w in stated]
        prior = 1 / (prior_variance[f] - spread[f])
        middle = weighted_median([*centres, prior_mean[f]], [*weights, prior])
        total = sum(weights) + prior
        squares = [
            (c - middle) ** 2 / (1 / e + spread[f] + 1 / total)
            for c, e in zip(centres, evidence, strict=True)
        ]
        typical, n = np.median(squares) / 0.4549, len(rows)
        wider = max(1.0, (16 + (n - 2) * typical) / (14 + n))
        near = [square <= 4 * wider for square in squares[:-1]] + [True]
        for j in range(len(sent)):
            others = [m for m in range(n) if near[m] and m != j]
            total = prior + sum(weights[m] for m in others)
            pull = prior * prior_mean[f] + sum(weights[m] * centres[m] for m in others)
            variance = 1 / evidence[j] + spread[f] + 1 / total
            square = (centres[j] - pull / total) ** 2 / variance / wider
            largest[j] = max(largest[j], square**0.5)
    return largest
