"""Settings every test runs under: strict JAX, two forced CPU devices, quick builds."""

import atexit
import contextlib
import ctypes
import gc
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections import Counter

# Set before JAX is imported, and inherited by the processes that tests start:
# programs here run for moments, so building them is what takes the time. Two workers
# keep both cores busy: one thread is enough for each.
QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib") < "0.11":  # as in ``experiment.programs``
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK])
# One cache for each worker: two at work on one file would read halves of it.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax_cache_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
atexit.register(
    shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_debug_nans", True)
jax.devices()  # started now, or the first configuration would ask for more


# Files that share compiled programs: one worker takes each group.
SHARED_PROGRAMS = {
    "tests/simulation/test_layouts.py": "population",
    "tests/simulation/test_network.py": "population",
    "tests/simulation/test_population.py": "population",
    "tests/agent/test_agent.py": "agent",
    "tests/agent/test_arguments.py": "agent",
    "tests/agent/test_false_messages.py": "agent",
    "tests/agent/test_price_memory.py": "agent",
    "tests/agent/test_service.py": "agent",
    "tests/agent/test_storage.py": "agent",
    "tests/agent/test_timing.py": "agent",
}


def pytest_configure(config):
    config.option.loadscopereorder = False  # files stay in the order given below


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class GroupedFiles(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return SHARED_PROGRAMS.get(file, file)

    return GroupedFiles(config, log) if config.option.dist == "loadfile" else None


# Compiled programs of tests long done would fill the memory of a worker.
MAX_BETWEEN_FILES = 1_500_000_000
MAX_WITHIN_FILE = 2_000_000_000  # dropping programs that are still needed costs time
MAX_PEAK = 2_500_000_000


def memory_bytes(field):
    """Resident memory of this process now (VmRSS), or its peak (VmHWM)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", file.read())[1])


def pytest_runtest_teardown(item, nextitem):
    """A worker that has grown drops its programs; no test takes it beyond the peak."""
    if sys.platform != "linux":
        return
    peak = memory_bytes("VmHWM")
    same_file = nextitem is not None and nextitem.path == item.path
    if memory_bytes("VmRSS") > (MAX_WITHIN_FILE if same_file else MAX_BETWEEN_FILES):
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed pages go back to the system
    if peak > MAX_PEAK:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the next test has a peak of its own
        pytest.fail(f"{item.nodeid} took the process to {peak / 1e9:.1f} GB")


def pytest_collection_modifyitems(items):
    """Slow files first, so that no worker is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
