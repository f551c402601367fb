"""What an axis shows, and what is named because it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2p_sac_jax.report import labels

Array = np.ndarray


def frame(
    compared: Sequence[Array], others: Sequence[Array] = (), log: bool = False
) -> tuple[float, float]:
    """Limits of an axis that show all of what is compared.

    Each of the others widens them where it lies close by, and is left outside where it
    would squeeze what is compared to less than half of the axis.

    Args:
      compared: values, of any number; what is not finite does not count.
      others: the same.
      log: whether the axis is logarithmic.
    """
    scale = np.log10 if log else np.asarray
    known = [scale(v[np.isfinite(v)]) for v in (np.ravel(v) for v in compared)]
    inside = np.concatenate([*known, *([] if any(map(len, known)) else [[0.0]])])
    least, most = inside.min(), inside.max()
    span = max(most - least, 0.01 * abs(most), 1e-9)
    low, high = least, most
    for values in map(np.ravel, others):
        ends = scale(values[np.isfinite(values)])
        if len(ends) and ends.min() > least - span / 2 and ends.max() < most + span / 2:
            low, high = min(low, ends.min()), max(high, ends.max())
    margin = 0.05 * max(high - low, span)
    low, high = low - margin, high + margin
    return (10.0**low, 10.0**high) if log else (low, high)


def outside(
    named: Sequence[tuple[str, Array]],
    limits: tuple[float, float],
    unit: str,
    end: float = np.inf,
) -> str:
    """What reaches out of a frame, and from where to where, as text.

    Args:
      named: names and values; inf stands at ``end``.
      limits: of the frame.
      unit: of the values.
      end: where observation ended.
    """
    beyond = []
    for name, values in named:
        known = values[~np.isnan(values)]
        drawn = np.minimum(known, end)
        if len(known) and (drawn.min() < limits[0] or drawn.max() > limits[1]):
            ends = (labels.quantity(unit, float(v)) for v in (known.min(), known.max()))
            beyond.append(f"{name} ({' to '.join(dict.fromkeys(ends))})")
    return f"Reaching out of the frame: {', '.join(beyond)}." if beyond else ""
