"""A live view of a run: its rows as TensorBoard scalars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment.metrics import Row
from p2p_sac_jax.experiment.metrics_columns import KEY

FOLDER = "tensorboard"
_NOT_PLOTTED = {*(column.name for column in KEY), "peer", "population", "byzantine"}


class TensorBoardSink:
    """Writes event files for the rows it is called with.

    Every arm and seed is a run of TensorBoard. Tags are ``population/COLUMN`` and
    ``peers/COLUMN``, the mean over honest peers; of a list the mean over its steps.

    Args:
      workdir: folder of the run; the files are in its folder ``tensorboard``.

    Raises:
      ConfigError: tensorboardX is missing.
    """

    def __init__(self, workdir: Path) -> None:
        try:
            # The writer behind SummaryWriter, without a thread that may lag behind.
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2
        except ImportError as error:
            raise ConfigError(
                "--tensorboard needs tensorboardX: pip install"
                " 'p2p-sac-jax[tensorboard]'"
            ) from error
        self._folder = workdir / FOLDER
        self._open, self._scalar = event_file_writer.EventsWriter, summary.scalar
        self._proto: Any = event_pb2
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> TensorBoardSink:
        """Files are opened with the first rows."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()

    def __call__(self, rows: list[Row]) -> None:
        """Writes the rows of one evaluation."""
        for key in dict.fromkeys((row["run"], row["seed"]) for row in rows):
            mine = [row for row in rows if (row["run"], row["seed"]) == key]
            writer = self._writer("{}_seed{}".format(*key), mine[0]["step"])
            for kind, some in (
                ("population", [r for r in mine if "population" in r]),
                ("peers", [r for r in mine if "peer" in r and not r.get("byzantine")]),
            ):
                for column, value in _means(some):
                    event = self._proto.Event(
                        summary=self._scalar(f"{kind}/{column}", value),
                        step=mine[0]["step"],
                        wall_time=time.time(),
                    )
                    writer.write_event(event)
            writer.flush()

    def _writer(self, name: str, start: int) -> Any:
        """An open file; what an earlier process wrote from ``start`` on is hidden."""
        if name not in self._writers:
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[name] = self._open(str(folder / "events"))
            begun = self._proto.SessionLog(status=self._proto.SessionLog.START)
            event = self._proto.Event(session_log=begun, step=start)
            self._writers[name].write_event(event)
        return self._writers[name]


def _means(rows: list[Row]) -> Iterator[tuple[str, float]]:
    """Mean of every numeric column that all rows have."""
    for name in [name for name in rows[0] if name not in _NOT_PLOTTED] if rows else ():
        values = [row.get(name) for row in rows]
        if not any(value is None or isinstance(value, str) for value in values):
            yield name, float(np.mean(np.array(values)))
