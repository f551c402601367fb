"""Placement of peers and connection of processes: every refusal in one line."""

import dataclasses
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict, to_dict
from p2p_sac_jax.experiment import device_memory, devices, distributed
from p2p_sac_jax.experiment.cluster import Cluster, find_cluster
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.files import save_json
from tests.configs import tiny
from tests.helpers.populations import small_config
from tests.helpers.processes import ROOT, TINY, finish, launch_all

SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("fields", "layout", "devices", "padded"),
    [
        ({}, "map", 2, 4),
        ({"layout": "vmap"}, "vmap", 2, 4),
        ({"layout": "vmap", "devices": 1}, "vmap", 1, 4),
        ({"devices": 1}, "map", 1, 4),
        ({"peers": 3}, "map", 2, 4),
        ({"peers": 1}, "vmap", 1, 1),
        ({"peers": 1, "devices": 2}, "vmap", 2, 2),
        ({"peers": 3, "pad_to": 5}, "map", 2, 6),
    ],
)
def test_layout_and_devices_are_chosen_apart(fields, layout, devices, padded):
    population = {"peers", "pad_to"}
    config = small_config(
        root={k: v for k, v in fields.items() if k not in population},
        population={k: v for k, v in fields.items() if k in population},
    )
    placement = choose_placement(config)
    assert (placement.layout, placement.devices) == (layout, devices)
    assert placement.peers == padded
    assert (placement.mesh is None) == (devices == 1)


def test_more_devices_than_exist_are_refused():
    config = small_config(root={"devices": 4})
    with pytest.raises(ConfigError, match=r"devices=4 must be at most the 2 cpu dev"):
        choose_placement(config)  # these tests have started JAX with two


@pytest.mark.parametrize(
    ("peers", "pad_to", "count"), [(10, 0, 5), (8, 0, 8), (3, 0, 3), (9, 16, 8)]
)
def test_no_more_devices_than_it_takes_to_hold_so_few_peers(
    monkeypatch, peers, pad_to, count
):
    monkeypatch.setattr(devices, "cores", lambda: 8)
    eight = [SimpleNamespace(process_index=0, platform="cpu")] * 16
    config = small_config(population={"peers": peers, "pad_to": pad_to})
    assert len(devices._chosen(config, eight)) == count
    # An explicit number is used, with or without padding.
    config = dataclasses.replace(config, devices=3)
    assert len(devices._chosen(config, eight)) == 3


def test_cores_are_counted_without_an_affinity(monkeypatch):
    assert devices.cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert devices.cores() == os.cpu_count()


def test_a_single_process_does_not_communicate():
    def refuse():
        raise ConfigError("no")

    assert distributed.processes() == 1
    assert distributed.is_main()
    assert distributed.allreduce_max(3) == 3
    assert distributed.broadcast_from_main(lambda: 4) == 4
    for share in (distributed.broadcast_from_main, distributed.run_on_all):
        with pytest.raises(ConfigError, match=r"^no$"):
            share(refuse)


def test_a_long_reason_is_shortened_for_the_others(monkeypatch):
    def fail():
        raise ConfigError("\N{SNOWMAN}" * 5000)

    monkeypatch.setattr(distributed, "processes", lambda: 2)
    gather = distributed.multihost_utils
    monkeypatch.setattr(gather, "process_allgather", lambda row: np.stack([row, row]))
    with pytest.raises(distributed.SharedConfigError, match=r"^\u2603{500,} \.\.\.$"):
        distributed.run_on_all(fail)


def test_running_out_of_memory_is_not_reported_as_a_lost_process(monkeypatch, capsys):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    for reason, line in (
        ("RESOURCE_EXHAUSTED: 9 bytes", "error: out of memory: RESOURCE_EXHAUSTED: 9"),
        ("UNAVAILABLE: gone", "error: no contact with another process (UNAVAILABLE"),
    ):
        with pytest.raises(SystemExit, match="1"):
            distributed.abandon(jax.errors.JaxRuntimeError(reason))
        assert capsys.readouterr().err.startswith(line)


def test_pages_of_files_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(device_memory, "_CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("9000\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 2000\n")
    assert device_memory.free_memory() == device_memory.free_memory(1) == 6000
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.free_memory() > 1e8


def test_a_sharded_array_can_be_gathered():
    placement = choose_placement(small_config())
    axes = jax.sharding.PartitionSpec("peers")
    sharding = jax.sharding.NamedSharding(placement.mesh, axes)
    whole = np.arange(8.0).reshape(4, 2)
    placed = distributed.put(whole, sharding)
    assert placed.dtype == np.float32
    assert len(placed.devices()) == 2
    np.testing.assert_array_equal(distributed.gather({"x": placed})["x"], whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("auto", "here:1", 2, None), r"--process_id must be given too: --coord"),
        (("auto", None, 2, 0), r"--coordinator must be given too: "),
        (("auto", None, None, 0), r"--coordinator and --num_processes must be given"),
        (("off", "here:1", 2, 0), r"--distributed=off must come without --coordinat"),
        (("auto", "here", 2, 0), r"--coordinator='here' must be HOST:PORT"),
        (("auto", "here:0", 2, 0), r"--coordinator='here:0' must be HOST:PORT"),
        (("auto", "here:1", 0, 0), r"--num_processes=0 must be at least 1"),
        (("auto", "here:1", 2, 2), r"--process_id=2 must be in \[0, 2\)"),
    ],
)
def test_flags_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        find_cluster(*arguments)
    assert "\n" not in str(error.value)


def test_a_scheduler_of_several_processes_is_recognised(monkeypatch):
    unset = None, None, None
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    assert find_cluster("auto", *unset) is None
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found = find_cluster("auto", *unset)
    assert found is not None
    assert re.fullmatch(r"node07:\d+", found.coordinator)
    assert found[1:] == (2, 1, True)
    assert find_cluster("off", *unset) is None
    explicit = Cluster("[::1]:99", 3, 2, detected=False)
    assert find_cluster("auto", "[::1]:99", 3, 2) == explicit
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert find_cluster("auto", *unset) is None
    monkeypatch.setenv("SLURM_NTASKS", "many")
    with pytest.raises(ConfigError, match="--distributed=auto cannot read the sched"):
        find_cluster("auto", *unset)


def test_a_scheduler_can_add_to_its_timeout(monkeypatch):
    class Scheduler(ClusterEnv):
        """Like Cloud TPU, which computes a deadline from the timeout."""

        @classmethod
        def is_env_present(cls):
            return True

        @classmethod
        def get_coordinator_address(cls, timeout_secs, override_coordinator_port):
            assert 0.0 + timeout_secs >= 0.0  # a number, whatever was asked for
            return "tpu0:8476"

        @classmethod
        def get_process_count(cls):
            return 4

        @classmethod
        def get_process_id(cls):
            return 3

    monkeypatch.setattr(ClusterEnv, "_cluster_types", [Scheduler])
    found = find_cluster("auto", None, None, None)
    assert found == Cluster("tpu0:8476", 4, 3, detected=True)


def test_a_missing_process_is_one_line():
    program = (
        "from p2p_sac_jax.experiment import distributed;"
        "distributed.start('auto', 'localhost:1', 2, 1, timeout_s=0.5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    line = "error: coordinator localhost:1: not all processes were there after 0.5 s\n"
    assert done.stderr.endswith(line)


def test_an_error_of_process_0_ends_all_and_is_printed_once(tmp_path):
    config = from_dict(tiny.get_config().to_dict())
    save_json(tmp_path / "run.json", {"config": to_dict(config)})
    pair = launch_all(2, TINY, f"--workdir={tmp_path}", "--config.seed=1")
    first, second = map(finish, pair)
    assert (first.returncode, second.returncode) == (2, 2), first.stderr
    errors = re.findall(r"^error: .*", first.stderr + second.stderr, re.MULTILINE)
    assert len(errors) == 1
    assert "differs in seed; " in first.stderr
