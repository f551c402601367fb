"""NumPy references of the attacks: one byzantine peer, one coordinate at a time.

Independent of the package: float64, loops over senders, written from the papers.
"""

import math
from statistics import NormalDist

import numpy as np


def coefficients(demand, j):
    """Least squares of one peer, straight from its sufficient statistics."""
    S = np.asarray(demand.precision[j], np.float64)
    return np.linalg.solve(S, np.asarray(demand.shift[j], np.float64))


def vectors(received):
    """Lists [J][V] of what each sender sends, None where it has no data."""
    insight, demand = received.insight, received.demand
    leaves = (insight.state_value, insight.action_value, insight.entropy)
    rows = []
    for j in range(len(demand.count)):
        row = []
        for leaf in (*leaves, received.trend, insight.action_mean):
            for cell, seen in zip(leaf[j], insight.valid[j], strict=True):
                row += [float(x) if seen > 0 else None for x in np.ravel(cell)]
        has = demand.count[j] > 0
        theta = coefficients(demand, j) if has else [None] * demand.shift.shape[-1]
        rows.append(row + list(theta))
    return rows


def attacked(kind, strength, rows, byzantine, j, v):
    """What byzantine peer j sends in coordinate v, without any noise."""
    honest = [row[v] for row, bad in zip(rows, byzantine, strict=True) if not bad]
    honest = [x for x in honest if x is not None]
    own = rows[j][v]
    if not honest:
        centre, spread = own or 0.0, 0.0
    else:
        centre, spread = np.mean(honest), np.std(honest)
    own = centre if own is None else own
    if kind in ("sign_flip", "timestamp"):
        return -strength * own
    if kind == "confidence":
        return -own
    if kind == "ipm":
        return -0.5 * strength * centre
    if kind in ("spread", "insider"):
        return centre
    assert kind == "alie"
    return centre - strength * alie_z(len(honest), int(sum(byzantine))) * spread


def insider_coefficients(strength, demand, byzantine, own_price, high):
    """Those of the mean honest statistics, but for the steepest slope of the box."""
    honest = (byzantine == 0) & (demand.count > 0)
    S = np.asarray(demand.precision, np.float64)[honest].mean(axis=0)
    theta = np.linalg.solve(S, np.asarray(demand.shift)[honest].mean(axis=0))
    return np.where(own_price > 0, strength * high, theta)


def alie_z(honest, byzantine):
    """Baruch et al. 2019, kept between 0.3 and the 99.9 % quantile."""
    n = max(honest, 1) + byzantine
    supporters = math.floor(n / 2 + 1) - byzantine
    quantile = (n - byzantine - supporters) / (n - byzantine)
    if quantile >= 0.999:
        return NormalDist().inv_cdf(0.999)
    return max(NormalDist().inv_cdf(quantile), 0.3) if quantile > 0 else 0.3


def dissensus(strength, rows, own, edge, byzantine, i, v):
    """He, Karimireddy & Jaggi 2022: what byzantine peers send to receiver i in v."""
    known = [(j, row[v]) for j, row in enumerate(rows) if not byzantine[j]]
    known = [(j, x) for j, x in known if x is not None]
    mine = own[i][v]
    if mine is None:
        mine = np.mean([x for _, x in known]) if known else 0.0
    byzantine = sum(edge[i][j] for j, bad in enumerate(byzantine) if bad)
    if not byzantine:
        return mine
    pull = sum(edge[i][j] * (x - mine) for j, x in known)
    return mine - strength * pull / byzantine
