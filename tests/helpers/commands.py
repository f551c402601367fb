"""Command lines of a program as a user types them, by forks of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Slow imports are done once; every command line then runs in a process of its own.
_FORKS = """
import json, os, runpy, sys
import benchmarks.measure

module, commands = json.load(sys.stdin)
for arguments, out, err in commands:
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()
"""


def run_each(
    module: str, commands: Sequence[str], folder: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Runs ``python -m module`` with the arguments of every command.

    Args:
      module: dotted name of a program.
      commands: arguments, separated by spaces.
      folder: for files with their output.
    """
    files = [
        (folder / f"{index}.out", folder / f"{index}.err")
        for index in range(len(commands))
    ]
    lines = [
        (command.split(), str(out), str(err))
        for command, (out, err) in zip(commands, files, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", _FORKS],
        cwd=ROOT,
        input=json.dumps([module, lines]),
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        command: subprocess.CompletedProcess(
            command, int(status), out.read_text("utf-8"), err.read_text("utf-8")
        )
        for command, status, (out, err) in zip(
            commands, done.stdout.split(), files, strict=True
        )
    }
