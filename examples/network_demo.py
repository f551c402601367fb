"""Five peers on loopback over mutual TLS; one is killed and comes back, one lies.

    python -m examples.network_demo [--seconds=120] [--week_s=1] [--folder=DIR]

Every peer is a process of its own, ``launch.run_peer`` as anybody would start it, in a
consortium made for the occasion. The last one is no peer but a liar with a valid
certificate: it tells others the opposite of what it heard from them, and sends them
bytes that are forged, repeated, dated ahead, too long, or nothing at all. Prints what
happened to each. Exits 0 if all honest peers ended in order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from examples.ports import free_ports
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

HONEST, LIAR, VICTIM = ("anna", "bela", "carla", "doris"), "mallory", "carla"
_FIRST_WEEK_S = 180.0  # a peer may have to compile first

PROGRAM = Program(__doc__, arguments=True)
_SECONDS = PROGRAM.number("seconds", 120.0, "from when all are at work")
_WEEK_S = PROGRAM.number("week_s", 1.0, "seconds that a week lasts")
_FOLDER = PROGRAM.string(
    "folder", "", "new folder for identities, states and logs; empty is a temporary one"
)
_CONFIG = PROGRAM.string("config", "configs/peer.py", "configuration of the peers")


@PROGRAM.main
def main() -> int:
    """Starts the peers, does them harm, and prints what became of them."""
    overrides = PROGRAM.arguments
    if _SECONDS.value <= 0 or _WEEK_S.value <= 0:
        raise ConfigError("--seconds and --week_s must be above 0")
    folder = Path(_FOLDER.value or tempfile.mkdtemp(prefix="p2p_network_"))
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--folder={str(folder)!r} must be new or empty")
    from p2p_sac_jax.agent.ops.authority import write_network

    names = [*HONEST, LIAR]
    write_network(folder / "network", "demo", "consortium", names, days=1)
    demo = Demo(folder, dict(zip(names, free_ports(len(names)), strict=True)))
    try:
        for name in HONEST:  # one after the other: the first compiles for all
            demo.start(name, overrides)
            demo.wait_for(name, "week")
        print(f"{len(HONEST)} peers at work; {LIAR} joins", flush=True)
        demo.start(LIAR)
        time.sleep(_SECONDS.value / 3)
        print(f"kill -9 {VICTIM}", flush=True)
        demo.processes[VICTIM].kill()
        demo.processes[VICTIM].wait()
        time.sleep(_SECONDS.value / 6)
        print(f"{VICTIM} starts again", flush=True)
        demo.start(VICTIM, overrides)
        time.sleep(_SECONDS.value / 2)
    finally:
        statuses = demo.stop()
    print(demo.table())
    print(f"logs, audit and states: {folder}")
    failed = [name for name in HONEST if statuses.get(name) != 0]
    if failed:
        print(f"did not end in order: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


class Demo:
    """The processes of a demonstration, and what they say."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        """``ports`` by name; nothing starts yet."""
        self._folder, self._ports = folder, ports
        start = datetime.now(UTC) - timedelta(seconds=60)  # everybody has a past
        self._origin = start.isoformat()
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, overrides: list[str] | None = None) -> None:
        """Starts a peer, or the liar; its log goes on where it was."""
        identity = self._folder / "network" / name
        others = [f"127.0.0.1:{p}" for n, p in self._ports.items() if n != name]
        module = "launch.run_peer" if name != LIAR else "examples.byzantine_peer"
        command = [
            *(sys.executable, "-m", module),
            f"--identity={identity}",
            f"--listen=127.0.0.1:{self._ports[name]}",
            f"--connect={','.join(others)}",
        ]
        if name != LIAR:
            command += [
                f"--config={_CONFIG.value}",
                f"--workdir={self._folder / name}",
                f"--week_s={_WEEK_S.value}",
                f"--origin={self._origin}",
                "--sync_s=5",
                *(overrides or []),
            ]
        with self._log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stderr=log, stdout=log, env=os.environ
            )

    def wait_for(self, name: str, event: str) -> None:
        """Waits until a peer has logged an event.

        Raises:
          ConfigError: it ended, or takes too long.
        """
        deadline = time.monotonic() + _FIRST_WEEK_S
        while not self._events(name, event):
            ended = self.processes[name].poll() is not None
            if ended or time.monotonic() > deadline:
                said = self._log(name).read_text(errors="replace").splitlines()
                last = said[-1] if said else "nothing"
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
                statuses[name] = process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        return statuses

    def table(self) -> str:
        """What became of each peer, as Markdown."""
        header = "| peer | weeks | earned | sent | delivered | pulled | refused |"
        rows = [header, "|---|---:|---:|---:|---:|---:|---|"]
        for name in self.processes:
            weeks, ends = self._events(name, "week"), self._events(name, "stopped")
            last, end = (weeks or [{}])[-1], (ends or [{}])[-1]
            reasons = ", ".join(f"{k} {v}" for k, v in end.get("refused", {}).items())
            earned = last.get("earned_share")
            cells = (
                name,
                last.get("week", ""),
                f"{earned:.3f}" if earned is not None else "",
                *(end.get(key, "") for key in ("sent", "delivered", "pulled")),
                reasons,
            )
            rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        return "\n".join(rows)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _events(self, name: str, event: str) -> list[dict[str, Any]]:
        found = []
        for line in self._log(name).read_text(errors="replace").splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                found += [entry] if entry.get("event") == event else []
        return found


if __name__ == "__main__":
    main()
