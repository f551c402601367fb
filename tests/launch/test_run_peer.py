"""``launch.run_peer`` as an operator starts it: real processes, sockets and signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime

import pytest

from examples.loopback import free_ports
from p2p_sac_jax.agent.ops.authority import write_network
from tests.helpers.commands import ROOT, run_each

CONFIG = ROOT / "tests" / "configs" / "peer.py"
PATIENCE_S = 120.0


class Peer:
    """One process of ``launch.run_peer``."""

    def __init__(self, folder, name, ports, *arguments):
        others = [f"127.0.0.1:{port}" for other, port in ports.items() if other != name]
        self.workdir = folder / f"{name}-work"
        self._path = folder / f"{name}.log"
        self._log = self._path.open("ab")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "launch.run_peer", f"--config={CONFIG}"),
                f"--identity={folder / 'network' / name}",
                f"--workdir={self.workdir}",
                f"--listen=127.0.0.1:{ports[name]}",
                f"--connect={','.join(others)}",
                *("--week_s=0.05", "--sync_s=0.5", *arguments),
            ],
            cwd=ROOT,
            env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
            stdout=self._log,
            stderr=self._log,
        )

    def events(self, name):
        text = self._path.read_text(encoding="utf-8")
        entries = [json.loads(line) for line in text.splitlines() if line]
        return [entry for entry in entries if entry["event"] == name]

    def wait_for(self, count, condition=lambda entry: True):
        """The last week, once ``count`` weeks of that kind have been logged."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            weeks = [week for week in self.events("week") if condition(week)]
            if len(weeks) >= count:
                return weeks[-1]
            assert self.process.poll() is None, self.events("week")[-3:]
            time.sleep(0.1)
        raise AssertionError(f"timeout: {self.events('week')[-3:]}")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._log.close()
        return status


@pytest.mark.thorough
def test_two_peers_exchange_and_one_resumes_after_a_kill(tmp_path):
    names = "anna", "bela"
    write_network(tmp_path / "network", "shops", "consortium", names)
    anna_port, bela_port, metrics = free_ports(3)
    ports = {"anna": anna_port, "bela": bela_port}
    origin = f"--origin={datetime.now(UTC).isoformat()}"
    peers = {"anna": Peer(tmp_path, "anna", ports, origin, f"--metrics={metrics}")}
    try:
        peers["anna"].wait_for(2)
        peers["bela"] = Peer(tmp_path, "bela", ports, origin)
        peers["bela"].wait_for(12, lambda week: week["health"] == "connected")

        url = f"http://127.0.0.1:{metrics}/metrics"
        with urllib.request.urlopen(url) as answer:
            shown = answer.read().decode()
        assert "p2p_sac_health 2.0" in shown
        assert "p2p_sac_profit_share" in shown

        before = peers["bela"].events("week")[-1]
        peers["bela"].end(signal.SIGKILL)
        peers["anna"].wait_for(1, lambda week: week["health"] == "alone")
        count = len(peers["bela"].events("week"))
        peers["bela"] = Peer(tmp_path, "bela", ports, origin)
        after = peers["bela"].wait_for(count + 1)
        # It resumes from its saved state; the clock of the market has moved.
        assert 1 < after["week"] <= before["week"] + 1
        assert after["clock"] > before["clock"]
        peers["anna"].wait_for(1, lambda week: week["clock"] > after["clock"])
        peers["bela"].wait_for(count + 8)
    finally:
        statuses = {name: peer.end() for name, peer in peers.items()}
    assert statuses == {"anna": 0, "bela": 0}
    for name, peer in peers.items():
        (*_, started) = peer.events("started")
        assert (started["name"], started["mode"]) == (name, "consortium")
        (other,) = {"anna", "bela"} - {name}
        assert {event["peer"] for event in peer.events("peer up")} == {other}
        (*_, ready) = peer.events("ready")
        compiling = [e for e in peer.events("compiling") if e["time"] < ready["time"]]
        assert compiling[-1]["elapsed_s"] <= ready["elapsed_s"]
    down = peers["anna"].events("peer down")
    assert {(e["peer"], e["reason"]) for e in down} == {("bela", "connection lost")}
    first, *_ = peers["anna"].events("week")
    assert first["away"] == {"bela": "never connected"}
    weeks = peers["bela"].events("week")
    assert all(week["figures"]["price"] > 0 for week in weeks)
    assert sum(week["received"].get("anna", 0) for week in weeks) > 4
    assert sum(week["messages"]["sent"] for week in weeks) > 4
    (stopped,) = peers["anna"].events("stopped")
    assert stopped["delivered"] > 4
    assert stopped["refused"] == {}

    audit = (peers["anna"].workdir / "audit.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in audit]
    assert {entry["mode"] for entry in entries} == {"consortium"}
    fields = {name for entry in entries for name in entry["fields"]}
    assert "action_mean" not in fields  # prices do not leave in this mode
    live = [entry for entry in entries if not entry["pulled"]]
    assert [entry["budget"]["releases"] for entry in live[::2]] == list(
        range(1, len(live) // 2 + 1)
    )


def test_user_errors_are_one_line(tmp_path):
    write_network(tmp_path / "network", "shops", "private", ["anna", "bela"])
    base = f"--config={CONFIG} --workdir={tmp_path / 'work'}"
    anna = f"{base} --identity={tmp_path / 'network' / 'anna'}"
    changes = "exchange.mode=private", "privacy.demand_noise=1", "privacy.min_weeks=8"
    private = " ".join([anna, *(f"--config.{change}" for change in changes)])
    wrong = {
        base: "--identity is missing",
        f"--config={CONFIG} --identity=x": "--workdir is missing",
        f"{base} --identity={tmp_path / 'nobody'}": "nobody",
        anna: "exchange.mode='consortium' must be that of the network, 'private'",
        f"{private} --name=bela": "--name='bela' must be 'anna'",
        f"{private} --listen=here": "listen='here' must be HOST:PORT",
        f"{private} --store=9": "store=9 must be in [0, 4)",
        f"{private} --week_s=-1": "--week_s=-1.0 must be above 0",
        f"{private} --market=nowhere:make": "--market='nowhere:make'",
        f"{private} --market=json:__name__": "str must have environment",
        f"{private} --market=json": "--market='json' must be MODULE:FACTORY",
        f"{private} --origin=yesterday": "--origin='yesterday' must be a date",
        f"{private} --week_s=1": "--origin=1970-01-05 with --week_s=1 makes this week",
        f"{private} --origin=2999-01-01": "--origin=2999-01-01 lies in the future",
        f"{private} --workdir={CONFIG}": "peer.py': File exists",
        f"{private} --metrics=x": "metrics='x' must be PORT or HOST:PORT",
    }
    done = run_each("launch.run_peer", list(wrong), tmp_path)
    for command, expected in wrong.items():
        error = done[command].stderr.strip()
        assert done[command].returncode == 2, error
        assert expected in error
        assert len(error.splitlines()) == 1, error
        assert json.loads(error)["level"] == "error"


def test_the_page_on_networks_has_an_example_that_runs(capsys):
    """With a smaller learner, so that it compiles in seconds."""
    page = (ROOT / "docs" / "network.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "from p2p_sac_jax.configs import pricing" in example
    exec(
        example.replace(
            "p2p_sac_jax.configs import pricing", "tests.configs import tiny as pricing"
        ),
        {},
    )
    assert "'updates'" in capsys.readouterr().out
