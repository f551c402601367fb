"""The processes that train together, given by the user or found by a scheduler."""

from __future__ import annotations

import re
import socket
import warnings
from typing import NamedTuple

from p2p_sac_jax.config import ConfigError

MODES = ("auto", "off")
START_TIMEOUT_S = 300.0  # that processes wait for each other at the start


class Cluster(NamedTuple):
    """All processes, and the index of this one."""

    coordinator: str  # HOST:PORT where process 0 listens
    processes: int
    index: int
    detected: bool  # by JAX, from a scheduler


def find_cluster(
    mode: str,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> Cluster | None:
    """The processes to connect with, or None for a single process.

    Args:
      mode: "auto" asks JAX for a scheduler that started several processes, "off"
        does not.
      coordinator: with the next two, overrides the scheduler.
      num_processes: see ``coordinator``.
      process_id: see ``coordinator``.

    Raises:
      ConfigError: the arguments do not fit together, or the scheduler cannot be read.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return _detected() if mode == "auto" else None
    if mode == "off":
        raise ConfigError(
            "--distributed=off must come without --coordinator, --num_processes and"
            " --process_id"
        )
    if coordinator is None or num_processes is None or process_id is None:
        raise ConfigError(
            f"{' and '.join(missing)} must be given too: --coordinator=HOST:PORT,"
            " --num_processes=N and --process_id=I go together"
        )
    match = re.fullmatch(r"(?:\[[^\]]+\]|[^:\s]+):(\d+)", coordinator)
    if not match or not 0 < int(match[1]) < 2**16:
        raise ConfigError(
            f"--coordinator={coordinator!r} must be HOST:PORT, where process 0 listens"
        )
    if num_processes < 1:
        raise ConfigError(f"--num_processes={num_processes} must be at least 1")
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id} must be in [0, {num_processes}):"
            f" --num_processes={num_processes}"
        )
    return Cluster(coordinator, num_processes, process_id, detected=False)


def check_port(coordinator: str) -> None:
    """Checks that process 0 can listen on its port, where JAX would crash.

    Raises:
      ConfigError: the port is in use.
    """
    port = int(coordinator.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise ConfigError(
            f"coordinator {coordinator}: port {port} of this host cannot be used:"
            f" {error.strerror}"
        ) from error


def _detected() -> Cluster | None:
    # JAX has no public function for this.
    from jax._src.clusters import ClusterEnv

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about schedulers that are absent
            found = ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, round(START_TIMEOUT_S)
            )
    except Exception as error:  # of any scheduler's client library
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"--distributed=auto cannot read the scheduler ({reason});"
            " --distributed=off trains in this process alone"
        ) from error
    coordinator, processes, index, _ = found
    if coordinator is None or processes is None or index is None or processes == 1:
        return None
    return Cluster(coordinator, processes, index, detected=True)
