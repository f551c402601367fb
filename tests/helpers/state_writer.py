"""Writes states of an agent's size without end, until it is killed.

It waits for a number on standard input, writes the state of that number, says so, and
goes on with the next.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from p2p_sac_jax.agent.ops.state_file import save_state


def arrays(number: int) -> dict[str, np.ndarray]:
    """The state with this number: every bit follows from it."""
    rng = np.random.default_rng(number)
    drawn = {
        f"part.{index}": rng.normal(size=(index % 7 + 1, 33)).astype(np.float32)
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
