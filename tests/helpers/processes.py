"""Training in a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from p2p_sac_jax.files import load_json

ROOT = Path(__file__).parents[2]
TINY = f"--config={ROOT / 'tests' / 'configs' / 'tiny.py'}"
CLUSTER = (
    "--coordinator=localhost:{port}",
    "--num_processes={count}",
    "--process_id={index}",
)
STEPS = (8, 16, 24)  # of the checkpoints that ``tiny.py`` asks for
PATIENCE_S = 300.0
TIMINGS = {
    "compile_s",
    "run_s",
    "wall_s",
    "env_steps_per_s",
    "updates_per_s",
}


def launch(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts ``commands.train`` with these arguments and environment variables."""
    quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "p2p_sac_jax.commands.train", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | quick | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch_all(
    count: int, *arguments: object, **environment: str
) -> list[subprocess.Popen[str]]:
    """Starts ``count`` processes that train together, on this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return [
        launch(
            *arguments,
            *(flag.format(port=port, count=count, index=index) for flag in CLUSTER),
            **environment,
        )
        for index in range(count)
    ]


@contextlib.contextmanager
def occupied_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("", 0)) as taken:
        yield taken.getsockname()[1]


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Waits for the end."""
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess((), process.returncode, stdout, stderr)


def interrupt(
    workdir: Path, number: signal.Signals, when: Callable[[], bool], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Trains in ``workdir`` and sends a signal at the moment ``when`` turns true."""
    process = launch(TINY, f"--workdir={workdir}", *arguments)
    send(process, number, when)
    return finish(process)


def send(
    process: subprocess.Popen[str], number: signal.Signals, when: Callable[[], bool]
) -> None:
    """Sends a signal at the moment ``when`` turns true."""
    deadline = time.monotonic() + PATIENCE_S
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)


def has_step(workdir: Path, step: int) -> Callable[[], bool]:
    """Whether rows of ``step`` are on disk."""
    path = workdir / "metrics.jsonl"
    return lambda: path.exists() and f'"step": {step},' in path.read_text()


def saved_steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """A checkpoint, read without the package."""
    with ocp.PyTreeCheckpointer() as reader:
        folder = workdir / "checkpoints" / str(step)
        restored = reader.restore(folder.absolute())
    return {name: np.asarray(value) for name, value in restored.items()}


def read(workdir: Path, name: str) -> dict:
    """One of the run's JSON files, without its digest."""
    content = json.loads((workdir / name).read_text(encoding="utf-8"))
    return load_json(workdir / name) if isinstance(content, dict) else content


def rows(workdir: Path) -> list[dict]:
    """Every row of ``metrics.jsonl``."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """State, rows and figures are equal bit for bit, timings aside."""
    first, second = arrays(one, STEPS[-1]), arrays(other, STEPS[-1])
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
    metrics = "metrics.jsonl"
    assert (one / metrics).read_bytes() == (other / metrics).read_bytes()
    figures = [
        {k: v for k, v in read(path, "summary.json").items() if k not in TIMINGS}
        for path in (one, other)
    ]
    assert figures[0] == figures[1]
    assert read(one, "stores.json") == read(other, "stores.json")
