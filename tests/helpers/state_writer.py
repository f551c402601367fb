"""Writes states of an agent's size without end, until the process is killed.

It reads a number from standard input, writes the state of that number, prints it, and
continues with the next.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from p2p_sac_jax.agent.ops.state_file import save_state


def arrays(number: int) -> dict[str, np.ndarray]:
    """The state of a number, 1 MB; every bit follows from the number."""
    rng = np.random.default_rng(number)
    drawn = {
        f"part.{index}": rng.random((index % 7 + 1, 1033), np.float32)
        for index in range(60)
    }
    return drawn | {"number": np.array(number)}


def main(folder: Path) -> None:
    """Saves one state after the other, from the number that it reads."""
    number = int(sys.stdin.readline())
    while True:
        save_state(folder, arrays(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
