"""NumPy references of robust aggregation: one receiver, float64, plain loops."""

import math

import numpy as np


def liars(tolerated, n):
    """f of n voices, never a majority."""
    return min(math.floor(tolerated * n + 1e-6), max(n - 1, 0) // 2)


def weighted_median(values, voice):
    """Mean of the least and the greatest point with half the mass on either side."""
    pairs = sorted((v, w) for v, w in zip(values, voice, strict=True) if w > 0)
    if not pairs:
        return 0.0
    half = sum(w for _, w in pairs) / 2

    def is_median(point):
        left = sum(w for v, w in pairs if v <= point)
        right = sum(w for v, w in pairs if v >= point)
        return left >= half * (1 - 1e-9) and right >= half * (1 - 1e-9)

    medians = [v for v, _ in pairs if is_median(v)]
    return (min(medians) + max(medians)) / 2


def trimmed_mean(values, voice, tolerated):
    """Mean after removing mass f/n from the bottom, then from the top."""
    pairs = sorted([v, w] for v, w in zip(values, voice, strict=True) if w > 0)
    n = len(pairs)
    if n == 0:
        return 0.0
    cut = liars(tolerated, n) / n * sum(w for _, w in pairs)
    for order in (pairs, pairs[::-1]):
        left = cut
        for pair in order:
            taken = min(left, pair[1])
            pair[1] -= taken
            left -= taken
    return sum(v * w for v, w in pairs) / sum(w for _, w in pairs)


def _squares(a, b, mask):
    return float(((a - b) ** 2 * mask[:, None]).sum())


def _mean_square(x, speaks, j, m):
    common = speaks[j] * speaks[m]
    if common.sum() == 0:
        return 1e30
    return _squares(x[j], x[m], common) / (common.sum() * x.shape[-1])


def _average(x, voice):
    """Weighted mean [K, A] over voices [J, K] and where anyone speaks [K]."""
    out, total = np.zeros(x.shape[1:]), voice.sum(axis=0)
    for k in np.flatnonzero(total > 0):
        out[k] = sum(voice[j, k] * x[j, k] for j in range(len(x))) / total[k]
    return out, total > 0


def _each(x, voice, reduce):
    """``reduce(values, voices)`` of every coordinate."""
    out = np.zeros(x.shape[1:])
    for k, a in np.ndindex(*out.shape):
        out[k, a] = reduce(x[:, k, a], voice[:, k])
    return out, voice.sum(axis=0) > 0


def _median(x, voice, edge, own, knows, tolerated):
    return _each(x, voice, weighted_median)


def _trimmed(x, voice, edge, own, knows, tolerated):
    return _each(x, voice, lambda v, w: trimmed_mean(v, w, tolerated))


def geometric_cost(z, x, voice, edge):
    """Σ_j edge_j ‖x_j - z‖ over the cells each sender speaks on."""
    return sum(
        e * math.sqrt(_squares(x[j], z, voice[j] > 0)) for j, e in enumerate(edge)
    )


def _centred(x, voice, edge, own, knows, tolerated):
    centre, heard = _median(x, voice, edge, own, knows, tolerated)
    centre[knows > 0] = own[knows > 0]
    speaks = voice > 0
    distance = np.zeros(len(x))
    for j in np.flatnonzero(speaks.any(axis=1)):
        size = speaks[j].sum() * x.shape[-1]
        distance[j] = math.sqrt(_squares(x[j], centre, speaks[j]) / size)
    radius = weighted_median(distance, edge * speaks.any(axis=1))
    clipped = np.zeros_like(x)
    for j in range(len(x)):
        shrink = 1.0 if distance[j] <= radius else radius / distance[j]
        clipped[j] = shrink * (x[j] - centre)
    moved, _ = _average(clipped, voice)
    return centre + moved, heard


def _scores(x, voice, tolerated):
    speaks = voice > 0
    heard = [j for j in range(len(x)) if speaks[j].any()]
    n = len(heard)
    nearest = max(n - liars(tolerated, n) - 2, 1)
    scores = {}
    for j in heard:
        others = sorted(_mean_square(x, speaks, j, m) for m in heard if m != j)
        scores[j] = sum(others[:nearest])
    return scores, n - liars(tolerated, n)


def _of_best(x, voice, scores, keep):
    if not scores:
        return np.zeros(x.shape[1:]), np.zeros(x.shape[1], bool)
    worst = sorted(scores.values())[keep - 1]
    chosen = [j for j, s in scores.items() if s <= worst * (1 + 1e-12)]
    kept = np.zeros_like(voice)
    kept[chosen] = voice[chosen]
    return _average(x, kept)


def _krum(x, voice, edge, own, knows, tolerated):
    return _of_best(x, voice, _scores(x, voice, tolerated)[0], 1)


def _multi_krum(x, voice, edge, own, knows, tolerated):
    return _of_best(x, voice, *_scores(x, voice, tolerated))


def _nearest(x, voice, edge, own, knows, tolerated):
    speaks = voice > 0
    heard = [j for j in range(len(x)) if speaks[j].any()]
    keep = len(heard) - liars(tolerated, len(heard))
    mixed = np.zeros_like(x)
    for j in heard:
        distance = {m: _mean_square(x, speaks, j, m) for m in heard}
        worst = sorted(distance.values())[keep - 1]
        near = np.zeros_like(voice)
        for m in heard:
            if distance[m] <= worst:
                near[m] = voice[m]
        mixed[j] = _average(x, near)[0]
    return _trimmed(mixed, voice, edge, own, knows, tolerated)


METHODS = {
    "median": _median,
    "trimmed_mean": _trimmed,
    "krum": _krum,
    "multi_krum": _multi_krum,
    "centred_clipping": _centred,
    "nearest_neighbour": _nearest,
}


def voices(edge, weight, x):
    """Voices [J, K] of finite claims, and the claims [J, K, A] with 0 elsewhere."""
    sound = np.isfinite(x).all(axis=-1) & (weight > 0)
    voice = np.where(sound, np.asarray(edge, float)[:, None], 0.0)
    return voice, np.where(sound[..., None], x, 0.0).astype(float)


def aggregate(name, edge, weight, x, own, own_weight, tolerated):
    """Mean [I, K, A] and mass [I, K], receiver by receiver."""
    means, masses = [], []
    for i in range(len(edge)):
        voice, clean = voices(edge[i], weight, x)
        mine, knows = voices(np.ones(len(own)), own_weight, own)
        mean, heard = METHODS[name](
            clean, voice, edge[i].astype(float), knows[i], mine[i] > 0, tolerated
        )
        mass = np.zeros(weight.shape[1])
        for k in np.flatnonzero(heard):
            typical = weighted_median(weight[:, k], voice[:, k])
            mass[k] = voice[:, k].sum() * typical
        means.append(np.where(heard[:, None], mean, 0.0))
        masses.append(mass)
    return np.array(means), np.array(masses)
