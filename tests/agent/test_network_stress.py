"""Exactly-once delivery under kills, a stop and a flood of byzantine messages."""

from __future__ import annotations

import json

import pytest

from p2p_sac_jax.agent.protocol.refusals import Refusal
from tests.helpers.network_stress import CALM, HONEST, KILLED, run_stress

MOST_MB = 250.0
# For a byzantine peer with a valid certificate.
REASONS = {
    *(Refusal.garbage, Refusal.not_canonical, Refusal.unknown_sender),
    *(Refusal.oversize,),
    *(Refusal.wrong_source, Refusal.wrong_network, Refusal.wrong_mode),
    *(Refusal.stale_epoch, Refusal.replay, Refusal.future),
    *(Refusal.bad_body, Refusal.bad_number, Refusal.bad_signature),
}


def check(verdict):
    assert verdict.crashed == []
    assert verdict.accepted == 0
    assert verdict.twice == 0
    for name in HONEST:
        # A kill may come between writing down that a message was taken and taking it:
        # at most once is what a peer promises itself across its own death.
        assert verdict.missing[name] <= (name in KILLED), verdict.missing
    assert set(verdict.refused[CALM]) >= REASONS
    assert max(verdict.most_mb.values()) < MOST_MB


@pytest.mark.slow
def test_a_short_stress(tmp_path):
    verdict = run_stress(tmp_path, seconds=8, rate=25, stop_s=3, byzantine_rate=500)
    check(verdict)
    assert verdict.sent[CALM] > 100
    assert sum(verdict.byzantine.values()) > 1000


@pytest.mark.evidence
def test_a_long_stress(tmp_path):
    verdict = run_stress(tmp_path, seconds=60, rate=50, stop_s=5, byzantine_rate=450)
    print(json.dumps(verdict._asdict(), indent=1))  # noqa: T201
    check(verdict)
    assert verdict.sent[CALM] > 2800
    assert sum(verdict.byzantine.values()) >= 20_000
