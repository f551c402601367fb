"""A stress test between real processes: kills, a stop and a byzantine peer.

Every process is a peer over mutual TLS; the last of the roster has a valid certificate
and sends only byzantine messages. ``run_stress`` starts them and judges by what they
wrote down.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from examples.loopback import free_addresses
from p2p_sac_jax.agent.ops.authority import write_network
from tests.helpers import stress_process as stress_process
from tests.helpers.stress_process import BYZANTINE
from tests.helpers.zenoh_peers import PATIENCE_S, ROOT, wait_until

NAMES = ("calm", "stopped", "killed", "killed_too", BYZANTINE)
CALM, STOPPED, *KILLED, _ = NAMES
HONEST = NAMES[:-1]


class Verdict(NamedTuple):
    """Result of a stress test."""

    sent: dict[str, int]  # honest messages, by sender
    delivered: int  # to all honest peers together
    byzantine: dict[str, int]  # messages of the byzantine peer, by kind
    accepted: int  # deliveries of what no peer wrote down as sent
    missing: dict[str, int]  # messages of survivors, by receiver
    twice: int  # deliveries of one message to one peer beyond the first
    refused: dict[str, dict[str, int]]  # of the byzantine peer, by receiver and reason
    most_mb: dict[str, float]  # largest resident memory
    crashed: list[str]


class Process:
    """One peer's process; answers one line for each order."""

    def __init__(self, folder: Path, places: Mapping[str, str], rate: float) -> None:
        self.name = folder.name
        others = [place for name, place in places.items() if name != self.name]
        program = [sys.executable, stress_process.__file__, str(folder), str(rate)]
        self._errors = (folder / "errors").open("a")
        self.process = subprocess.Popen(
            [*program, places[self.name], *others],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answers: list[Any] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._answers.append(json.loads(line))

    def order(self, command: str) -> Any:
        assert self.process.stdin is not None
        count = len(self._answers)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        wait_until(lambda: len(self._answers) > count, f"{self.name} to {command}")
        return self._answers[count]

    def end(self, number: int) -> int:
        """Exit status after a signal."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._errors.close()
        return status

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def run_stress(
    folder: Path, seconds: float, rate: float, stop_s: float, byzantine_rate: float
) -> Verdict:
    """Runs a stress test in a new folder.

    Args:
      folder: for identities and logs.
      seconds: for which all peers send.
      rate: messages a second of each honest peer.
      stop_s: for how long one peer is stopped; starts at three tenths.
      byzantine_rate: messages a second of the byzantine peer.
    """
    write_network(folder, "stress", "consortium", NAMES)
    places = free_addresses(NAMES)
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Process:
            per_s = byzantine_rate if name == BYZANTINE else rate
            return stack.enter_context(Process(folder / name, places, per_s))

        running = {name: start(name) for name in NAMES}
        running[BYZANTINE].order("ready")
        began = time.monotonic()

        def wait(share: float, more_s: float = 0.0) -> None:
            due = began + share * seconds + more_s
            time.sleep(max(0.0, due - time.monotonic()))

        wait(0.2)
        for name in KILLED:
            running[name].end(signal.SIGKILL)
        wait(0.3)
        running[STOPPED].process.send_signal(signal.SIGSTOP)
        wait(0.35)
        for name in KILLED:
            running[name] = start(name)
        wait(0.3, stop_s)
        running[STOPPED].process.send_signal(signal.SIGCONT)
        wait(1.0)
        for process in running.values():
            process.order("quiet")
        wait_until(lambda: _settled(running), "everyone to have everything")
        reports = {name: process.order("report") for name, process in running.items()}
        ends = {name: process.end(signal.SIGTERM) for name, process in running.items()}
    crashed = [name for name, status in ends.items() if status or _failed(folder, name)]
    return _judge(folder, reports, crashed)


def _settled(running: Mapping[str, Process]) -> bool:
    """Syncs all honest peers; true if nothing was missing."""
    found = [running[name].order("sync") for name in HONEST]
    return not any(found)


def _failed(folder: Path, name: str) -> bool:
    return "Traceback" in (folder / name / "errors").read_text("utf-8")


def _judge(folder: Path, reports: Mapping[str, Any], crashed: list[str]) -> Verdict:
    sent = {name: set(_lines(folder / name / "sent")) for name in NAMES}
    received = {name: Counter(_lines(folder / name / "received")) for name in HONEST}
    all_sent = set().union(*sent.values())
    refused = {name: reports[name]["counters"]["refused_from"] for name in HONEST}
    return Verdict(
        sent={name: len(sent[name]) for name in HONEST},
        delivered=sum(sum(count.values()) for count in received.values()),
        byzantine=reports[BYZANTINE]["byzantine"],
        accepted=sum(len(count.keys() - all_sent) for count in received.values()),
        missing={
            name: sum(
                message not in received[name]
                for sender in (CALM, STOPPED)
                if sender != name
                for message in sent[sender]
            )
            for name in HONEST
        },
        twice=sum(n - 1 for count in received.values() for n in count.values()),
        refused={name: refused[name].get(BYZANTINE, {}) for name in HONEST},
        most_mb={name: reports[name]["most_mb"] for name in NAMES},
        crashed=crashed,
    )


def _lines(path: Path) -> list[str]:
    return path.read_text("ascii").splitlines()
