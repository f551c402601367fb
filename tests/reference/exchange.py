"""NumPy references of the exchange: every [I, J, K] weight spelled out in loops.

Independent of the package: float64, no factorisation, written from the formulas.
"""

import math

import numpy as np


def insight(inputs, num_cells, now, n0, beta):
    """The summary of one peer, cell by cell, as a dict of arrays."""
    cell = np.asarray(inputs.cell)
    names = ("state_value", "action_value", "entropy", "action_mean", "action_std")
    columns = {name: np.asarray(getattr(inputs, name), np.float64) for name in names}
    out = {name: np.zeros((num_cells, *x.shape[1:])) for name, x in columns.items()} | {
        name: np.zeros(num_cells) for name in ("count", "valid", "timestamp")
    }
    within = np.zeros(num_cells)
    for k in range(num_cells):
        rows = cell == k
        if not rows.any() or inputs.size <= 0:
            continue
        for name, x in columns.items():
            out[name][k] = x[rows].mean(axis=0)
        within[k] = columns["state_value"][rows].var()
        out["count"][k] = float(inputs.size) * rows.mean()
        out["valid"][k] = 1.0
        out["timestamp"][k] = now
    seen = out["valid"] > 0
    confidence = np.zeros(num_cells)
    if seen.any():
        share = out["count"][seen] / out["count"][seen].sum()
        means = out["state_value"][seen]
        spread = share @ (means - share @ means) ** 2
        distinct = 1.0 / (1.0 + within[seen] / spread) if seen.sum() > 1 else 1.0
        n = out["count"][seen]
        confidence[seen] = n / (n + n0) * distinct * math.exp(-beta * inputs.td_error)
    return out | {"confidence": confidence}


def edge_weights(adjacency, insight, now, tau, age_max):
    """The whole w[i, j, k]."""
    receivers, senders = adjacency.shape
    cells = insight.valid.shape[1]
    w = np.zeros((receivers, senders, cells))
    for i in range(receivers):
        for j in range(senders):
            for k in range(cells):
                age = float(now) - float(insight.timestamp[j, k])
                if insight.valid[j, k] and 0 <= age <= age_max:
                    w[i, j, k] = (
                        adjacency[i, j]
                        * math.exp(-age / tau)
                        * min(max(insight.confidence[j, k], 0.0), 1.0)
                    )
    return w


def aggregate(w, x):
    """Σ_j w x / Σ_j w over w [I, J, K] and x [J, K]; rows without weight give 0."""
    mass = w.sum(axis=1)
    total = (w * x).sum(axis=1)
    return np.divide(total, mass, out=np.zeros_like(mass), where=mass > 0), mass


def shape(insight, j):
    """Centre, scale, at least 1e-4 of the centre, and whether there are two cells."""
    seen = (insight.valid[j] > 0) & (insight.count[j] > 0)
    if seen.sum() < 2:
        return 0.0, 1.0, False
    n = np.asarray(insight.count[j][seen], np.float64)
    v = np.asarray(insight.state_value[j][seen], np.float64)
    centre = np.average(v, weights=n)
    scale = math.sqrt(np.average((v - centre) ** 2, weights=n))
    return centre, max(scale, 1e-4 * abs(centre)), True


def value_channel(mode, adjacency, sent, own, hyper, now, own_steps):
    """Value [I, K] and its weight [I, K] of one estimation mode."""
    receivers, senders = adjacency.shape
    age_max = math.inf if mode == "scalar" else hyper.age_max_s
    edges = adjacency * (hyper.network_weight > 0)
    w = edge_weights(edges, sent, now, hyper.recency_tau_s, age_max)
    local, network = float(hyper.local_weight), float(hyper.network_weight)
    if mode == "scalar":
        value, mass = aggregate(w, np.asarray(sent.state_value, np.float64))
        return value, np.where(mass > 0, network / (local + network), 0.0)
    shapes = np.zeros(sent.valid.shape)
    for j in range(senders):
        centre, scale, has = shape(sent, j)
        w[:, j] *= has
        shapes[j] = (sent.state_value[j] - centre) / scale
    if mode != "per_cell":
        w = w * sent.count
    mean, mass = aggregate(w, shapes)
    value, weight = np.zeros(mass.shape), np.zeros(mass.shape)
    for i in range(receivers):
        centre, scale, has = shape(own, i)
        fade = 1.0 / (1.0 + (own_steps[i] / hyper.value_half_life) ** 2)
        for k in np.flatnonzero((mass[i] > 0) & has):
            value[i, k] = centre + scale * mean[i, k]
            if mode == "per_cell":
                weight[i, k] = fade * network / (local + network)
            else:
                pi_local = own.valid[i, k] * own.count[i, k] * own.confidence[i, k]
                weight[i, k] = (
                    fade * network * mass[i, k] / (mass[i, k] + float(pi_local))
                )
    return value, weight
