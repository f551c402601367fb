"""Five peers on loopback over mutual TLS; one is killed and restarted, one byzantine.

    python -m examples.network_demo [--seconds=120] [--week_s=1] [--folder=DIR]

Each peer is a process of `launch.run_peer`, in a new consortium. The last one is
`examples.byzantine_peer`, with a valid certificate. Prints a table of what each peer
sent, received and refused. Exit status 0 if all correct peers ended in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from examples.loopback import free_addresses
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

CORRECT, BYZANTINE = ("anna", "bela", "carla", "doris"), "mallory"
RESTARTED = "carla"
_FIRST_WEEK_S = 600.0  # a peer may have to compile first, on a busy machine
_STOP_S = 120.0
_PR_SET_PDEATHSIG = 1

PROGRAM = Program(__doc__, arguments=True)
_SECONDS = PROGRAM.number("seconds", 120.0, "length, once all peers run")
_WEEK_S = PROGRAM.number("week_s", 1.0, "seconds of a week")
_FOLDER = PROGRAM.string(
    "folder", "", "new folder for identities, states and logs; empty is a temporary one"
)
_CONFIG = PROGRAM.string("config", "configs/peer.py", "configuration of the peers")


@PROGRAM.main
def main() -> int:
    """Starts the peers, disturbs them, and prints the table."""
    overrides = PROGRAM.arguments
    if _SECONDS.value <= 0 or _WEEK_S.value <= 0:
        raise ConfigError("--seconds and --week_s must be above 0")
    folder = Path(_FOLDER.value or tempfile.mkdtemp(prefix="p2p_network_"))
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--folder={str(folder)!r} must be new or empty")
    from p2p_sac_jax.agent.ops.authority import write_network

    names = [*CORRECT, BYZANTINE]
    write_network(folder / "network", "demo", "consortium", names, days=1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of ``stop``
    demo = Demo(folder, free_addresses(names))
    try:
        for name in CORRECT:  # in order: the first compiles for all
            demo.start(name, overrides)
            demo.wait_for(name, "week")
        print(f"{len(CORRECT)} peers run; {BYZANTINE} joins", flush=True)
        demo.start(BYZANTINE)
        time.sleep(_SECONDS.value / 3)
        print(f"kill -9 {RESTARTED}", flush=True)
        demo.processes[RESTARTED].kill()
        demo.processes[RESTARTED].wait()
        time.sleep(_SECONDS.value / 6)
        print(f"{RESTARTED} restarts", flush=True)
        demo.start(RESTARTED, overrides)
        demo.wait_for(RESTARTED, "week")
        time.sleep(_SECONDS.value / 2)
    finally:
        statuses = demo.stop()
    print(demo.table())
    print(f"logs, audit and states: {folder}")
    failed = [name for name in CORRECT if statuses.get(name) != 0]
    if failed:
        print(f"did not end in order: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


class Demo:
    """The processes of the demonstration and their logs."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        """``addresses`` by name; nothing starts yet."""
        self._folder, self._addresses = folder, addresses
        start = datetime.now(UTC) - timedelta(seconds=60)  # some weeks are over
        self._origin = start.isoformat()
        self.processes: dict[str, subprocess.Popen] = {}
        self._begins: dict[str, int] = {}  # size of the log at the last start, bytes

    def start(self, name: str, overrides: list[str] | None = None) -> None:
        """Starts a peer; its log continues."""
        identity = self._folder / "network" / name
        others = [place for n, place in self._addresses.items() if n != name]
        module = "examples.byzantine_peer" if name == BYZANTINE else "launch.run_peer"
        command = [
            *(sys.executable, "-m", module),
            f"--identity={identity}",
            f"--listen={self._addresses[name]}",
            f"--connect={','.join(others)}",
        ]
        if name != BYZANTINE:
            command += [
                f"--config={_CONFIG.value}",
                f"--workdir={self._folder / name}",
                f"--week_s={_WEEK_S.value}",
                f"--origin={self._origin}",
                "--sync_s=5",
                *(overrides or []),
            ]
        with self._log(name).open("ab") as log:
            self._begins[name] = log.tell()
            self.processes[name] = subprocess.Popen(
                command, stderr=log, stdout=log, preexec_fn=_end_with_parent
            )

    def wait_for(self, name: str, event: str) -> None:
        """Waits until a peer has logged an event since its last start.

        Raises:
          ConfigError: the peer ended, or takes too long.
        """
        deadline = time.monotonic() + _FIRST_WEEK_S
        while not self._events(name, event, self._begins[name]):
            ended = self.processes[name].poll() is not None
            if ended or time.monotonic() > deadline:
                lines = self._log(name).read_text(errors="replace").splitlines()
                last = lines[-1] if lines else "no output"
                raise ConfigError(f"{name} did not start: {last}")
            time.sleep(0.2)

    def stop(self) -> dict[str, int]:
        """Ends all processes in order; exit statuses by name."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        statuses = {}
        for name, process in self.processes.items():
            try:
                statuses[name] = process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        return statuses

    def table(self) -> str:
        """A row for each peer, as Markdown."""
        header = "| peer | weeks | profit share | sent | delivered | pulled | refused |"
        rows = [header, "|---|---:|---:|---:|---:|---:|---|"]
        for name in self.processes:
            weeks, ends = self._events(name, "week"), self._events(name, "stopped")
            last, end = (weeks or [{}])[-1], (ends or [{}])[-1]
            reasons = ", ".join(f"{k} {v}" for k, v in end.get("refused", {}).items())
            share = last.get("profit_share")
            cells = (
                name,
                last.get("week", ""),
                f"{share:.3f}" if share is not None else "",
                *(end.get(key, "") for key in ("sent", "delivered", "pulled")),
                reasons,
            )
            rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        return "\n".join(rows)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _events(self, name: str, event: str, begin: int = 0) -> list[dict[str, Any]]:
        found = []
        for line in self._log(name).read_bytes()[begin:].splitlines():
            with contextlib.suppress(ValueError):  # a line that a kill cut off
                entry = json.loads(line)
                found += [entry] if entry.get("event") == event else []
        return found


def _end_with_parent() -> None:
    """In a child: SIGTERM when the parent is killed; Linux alone has it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main()
