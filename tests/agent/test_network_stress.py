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
        # A kill may come between the record of a message and its delivery: across its
        # own death a peer delivers at most once.
        assert verdict.missing[name] <= (name in KILLED), verdict.missing
    assert set(verdict.refused[CALM]) >= REASONS
    assert max(verdict.most_mb.values()) < MOST_MB


@pytest.mark.thorough
def test_a_short_stress(tmp_path):
    verdict = run_stress(tmp_path, seconds=6, rate=25, stop_s=2.5, byzantine_rate=400)
    check(verdict)
    assert verdict.sent[CALM] > 75
    assert sum(verdict.byzantine.values()) > 1000


@pytest.mark.evidence
def test_a_long_stress(tmp_path):
    verdict = run_stress(tmp_path, seconds=60, rate=50, stop_s=5, byzantine_rate=450)
    print(json.dumps(verdict._asdict(), indent=1))  # noqa: T201
    check(verdict)
    assert verdict.sent[CALM] > 2800
    assert sum(verdict.byzantine.values()) >= 20_000
