"""Which machine and which versions figures came from."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from p2p_sac_jax.experiment.devices import cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def describe(packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """Date, versions, processor and devices; devices must have been chosen before."""
    devices, versions = jax.devices(), {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": versions,
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processor": processor(),
        "cores": cores(),
        "driver": driver(),
    }


def processor() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def driver() -> str | None:
    """Version of the NVIDIA driver, None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def others_s() -> float:
    """Processor seconds of all other processes so far; always 0 without Linux."""
    try:
        line = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    except OSError:
        return 0.0
    ticks = [int(word) for word in line.split()[1:9]]
    busy = sum(ticks) - sum(ticks[3:5])  # less idle, and waiting for a disk
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def memory_used() -> dict[str, int | None]:
    """Most bytes in use so far: of this process, and of the first accelerator.

    Both are high-water marks of everything the process has done, so they say what a
    whole benchmark took and nothing about one loop of several.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    device = jax.local_devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    return {
        "process": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "device": (statistics or {}).get("peak_bytes_in_use"),
    }
