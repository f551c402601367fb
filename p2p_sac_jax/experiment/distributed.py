"""Several processes that train one population: start, broadcast, reduce, stop.

Every process runs the same program. Only process 0 reads and writes files and prints;
what it reads, and every error, reaches all processes, so that they continue or stop
together. In a single process nothing here communicates.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment.cluster import START_TIMEOUT_S, check_port, find_cluster

_GRACE_S = 60.0  # JAX's own deadline, which aborts, comes this much later
_SHUTDOWN_TIMEOUT_S = 60
_RECORD_BYTES = 4096  # longest record of ``_gather_records``
_PIECE_BYTES = 2**24  # in which a broadcast is sent
_USER_ERROR = 2

T = TypeVar("T")


class SharedConfigError(ConfigError):
    """A ``ConfigError`` of one process, raised in all."""

    def __init__(self, message: str, raised_here: bool) -> None:
        """``raised_here`` in the one process that found it and reports it."""
        super().__init__(message)
        self.raised_here = raised_here


class _Process(NamedTuple):
    """The number of processes, and the index of this one."""

    count: int
    index: int


_process: _Process | None = None  # once ``start`` has connected it


def start(
    mode: str = "auto",
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> None:
    """Connects this process with the others, if there are any.

    Must run before anything else starts JAX.

    Args:
      mode: "auto" connects where JAX recognises a scheduler (Slurm, Open MPI,
        Kubernetes, Cloud TPU) that has started more than one process; "off" does not.
      coordinator: HOST:PORT of process 0; needs the next two and overrides the
        scheduler.
      num_processes: number of processes.
      process_id: index of this process, from 0.
      timeout_s: seconds to wait for the others. Then the process prints a line and
        exits with status 2, as JAX offers no error to raise here.

    Raises:
      ConfigError: the arguments do not fit together, or the port is taken.
    """
    global _process
    cluster = find_cluster(mode, coordinator, num_processes, process_id)
    if cluster is None:
        return
    if cluster.index == 0:
        check_port(cluster.coordinator)
    # ``allreduce_max`` shares signals; JAX's own service would consume SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    explicit: dict[str, Any] = {}  # JAX detects a scheduler again by itself
    if not cluster.detected:
        explicit = {
            "coordinator_address": cluster.coordinator,
            "num_processes": cluster.processes,
            "process_id": cluster.index,
        }
    waiting = threading.Timer(timeout_s, _give_up, (cluster.coordinator, timeout_s))
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(
            **explicit,
            initialization_timeout=round(timeout_s + _GRACE_S),
            shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT_S,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"coordinator {cluster.coordinator}: {reason}") from error
    finally:
        waiting.cancel()
    _process = _Process(cluster.processes, cluster.index)


def stop() -> None:
    """Waits for the other processes and disconnects."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def abandon(error: BaseException) -> NoReturn:
    """Prints the error and ends this process at once.

    For errors of one process: a regular exit would wait for the others for a minute.
    """
    status = 1
    if isinstance(error, KeyboardInterrupt):
        text, status = "SIGINT: nothing to save yet", 130
    elif isinstance(error, (ConfigError, OSError)):
        text, status = f"error: {error}", _USER_ERROR
    elif isinstance(error, jax.errors.JaxRuntimeError):
        reason = [*str(error).splitlines(), ""][0]
        text = (
            f"error: no contact with another process ({reason});"
            " the same command resumes from the last checkpoint"
        )
        if "RESOURCE_EXHAUSTED" in str(error):
            text = f"error: out of memory: {reason}"
    else:
        text = "".join(traceback.format_exception(error)).rstrip()
    sys.stderr.write(f"{text}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def processes() -> int:
    """Number of processes; starts no JAX backend after ``start``."""
    return _this_process().count


def is_main() -> bool:
    """Whether this is process 0, which writes files; starts no JAX backend."""
    return _this_process().index == 0


def gather(tree: Any) -> Any:
    """Every leaf whole, as a NumPy array on this host, in every process.

    All processes must call it. A leaf passes through each device whole.
    """

    def whole(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree) if processes() > 1 else jax.device_get(tree)


def put(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array that every process holds whole, sharded over the devices of all."""
    whole = np.asarray(leaf)
    whole = whole.astype(jax.dtypes.canonicalize_dtype(whole.dtype), copy=False)
    return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)


def run_on_all(function: Callable[[], T]) -> T:
    """``function()``, called in every process: all succeed or all raise.

    Raises:
      ConfigError: ``function`` raised it; with several processes it is a
        ``SharedConfigError``.
    """
    if processes() == 1:
        return function()
    message = ""
    try:
        value = function()
    except ConfigError as error:
        value, message = error, _shortened(str(error))
    messages = _gather_records(message)
    failed = [index for index, message in enumerate(messages) if message]
    if failed:
        first = failed[0]
        here = first == _this_process().index
        raise SharedConfigError(messages[first], raised_here=here)
    return value  # pyright: ignore[reportReturnType]


def broadcast_from_main(function: Callable[[], T]) -> T:
    """What ``function()`` returns in process 0, which alone calls it.

    Args:
      function: returns plain data and NumPy arrays.

    Raises:
      ConfigError: as ``run_on_all``.
    """
    if processes() == 1:
        return function()
    value = run_on_all(function if is_main() else lambda: None)
    blob = pickle.dumps(value) if is_main() else b""
    size = allreduce_max(len(blob))
    # Few sizes, so that few programs are compiled.
    piece = min(max(_RECORD_BYTES, 1 << (size - 1).bit_length()), _PIECE_BYTES)
    whole = np.zeros(-(-size // piece) * piece, np.uint8)
    whole[: len(blob)] = np.frombuffer(blob, np.uint8)
    pieces = [
        multihost_utils.broadcast_one_to_all(row, is_source=is_main())
        for row in whole.reshape(-1, piece)
    ]
    return pickle.loads(np.concatenate(pieces)[:size].tobytes())


def allreduce_max(number: int) -> int:
    """The largest of the numbers that the processes call this with."""
    return max(_gather_records(number)) if processes() > 1 else number


def barrier() -> None:
    """Returns when every process has called this.

    Needed after work whose time differs between processes, such as compiling, and
    before the first program that connects more devices: CPU devices wait 30 s for each
    other to connect.
    """
    allreduce_max(0)


def check_same(name: str, value: str) -> None:
    """Checks that all processes call this with the same value.

    Raises:
      SharedConfigError: a value differs from that of process 0.
    """

    def check() -> None:
        if value != values[0]:
            raise ConfigError(f"{name} {value} differs from {values[0]} of process 0")

    if processes() > 1:
        values = _gather_records(value)
        run_on_all(check)


def _this_process() -> _Process:
    if _process is not None:
        return _process
    if jax.distributed.is_initialized():  # by the caller
        return _Process(jax.process_count(), jax.process_index())
    return _Process(1, 0)


def _give_up(coordinator: str, timeout_s: float) -> None:
    sys.stderr.write(
        f"error: coordinator {coordinator}: not all processes were there after"
        f" {timeout_s:g} s\n"
    )
    sys.stderr.flush()
    os._exit(_USER_ERROR)


def _gather_records(record: Any) -> list[Any]:
    """The records of all processes; each is JSON of at most ``_RECORD_BYTES``."""
    text = json.dumps(record).encode()
    row = np.zeros(_RECORD_BYTES, np.uint8)
    row[: len(text)] = np.frombuffer(text, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(row))
    return [json.loads(row.tobytes().rstrip(b"\0")) for row in rows]


def _shortened(message: str) -> str:
    """As much of a message as fits into a record."""
    if len(json.dumps(message)) <= _RECORD_BYTES:
        return message
    kept = message[:_RECORD_BYTES]
    while len(json.dumps(f"{kept} ...")) > _RECORD_BYTES:  # escapes are longer
        kept = kept[:-16]
    return f"{kept} ..."
