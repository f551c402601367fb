"""The rows of a run as one tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment.metrics import Row, read_rows
from p2p_sac_jax.experiment.metrics_columns import KEY, PEER

if TYPE_CHECKING:
    import pandas as pd

_INDEX = (*(column.name for column in KEY), "peer", "byzantine")
_LISTS = {column.name: column.shape for column in PEER if column.shape}


def read_metrics(workdir: str | Path) -> pd.DataFrame:
    """Every number of ``metrics.jsonl``, one in a row.

    Args:
      workdir: folder of a run, finished or not.

    Returns:
      Columns ``run`` (the arm), ``seed``, ``step``, ``peer`` (missing in figures of
      the whole population), ``byzantine``, ``metric`` and ``value``. Metrics and units
      are those of ``docs/runs.md``. ``step`` counts environment steps taken: a figure
      of a chunk has that of its end, one of a single step its own. Trust in peer 3 is
      the metric ``trust[3]``. What is not finite is NaN.

    Raises:
      ConfigError: pandas is missing, or the folder holds no rows.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(
            "read_metrics needs pandas: pip install 'p2p-sac-jax[data]'"
        ) from error
    path = Path(workdir) / "metrics.jsonl"
    rows = read_rows(path)
    if not rows:
        raise ConfigError(f"{path} has no rows: there is no run, or nothing yet")
    numbers = [number for row in rows for number in _numbers(row)]
    frame = pd.DataFrame(numbers, columns=[*_INDEX, "metric", "value"])
    return frame.astype({"peer": "Int64", "run": "category", "metric": "category"})


def _numbers(row: Row) -> Iterator[tuple[Any, ...]]:
    """Index, metric and value of every number in a row."""
    run, seed, end = row["run"], row["seed"], row["step"]
    who = row.get("peer"), row.get("byzantine", False)
    for name, value in row.items():
        if name in (*_INDEX, "population") or isinstance(value, str):
            continue
        if _LISTS.get(name) == "S":
            for step, one in enumerate(value, end - len(value) + 1):
                yield run, seed, step, *who, name, one
        elif name in _LISTS:
            for peer, one in enumerate(value):
                yield run, seed, end, *who, f"{name}[{peer}]", one
        else:
            yield run, seed, end, *who, name, math.nan if value is None else value
