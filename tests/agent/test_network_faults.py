"""Every message once, under loss, delay, partitions and restarts."""

import asyncio
import itertools
import random
from collections import Counter

import pytest

from tests.helpers.hub_peers import FIELDS, KIND, Recorder, hub_of, peer, peers_of, run


def faults(seed):
    """Loss, delay and partitions; a peer that joins late, one that starts again."""

    async def test(folder):
        draw = random.Random(seed)
        hub = hub_of(5, loss=0.3, delay_s=2.0, seed=seed)
        names = list(hub.roster.keys)
        late, restarts = names[3:]
        recorders = {name: Recorder() for name in names}
        networks = {}
        sent = Counter()

        async def start(name):
            networks[name] = await peer(
                hub, name, recorders[name], folder=folder / name
            )

        for name in names:
            if name != late:
                await start(name)
        for step in range(60):
            for name, network in networks.items():
                if draw.random() < 0.7:
                    await network.broadcast(KIND, FIELDS)
                    sent[name] += 1
            event = draw.random()
            if event < 0.1:
                shuffled = draw.sample(names, len(names))
                hub.partition(shuffled[:2], shuffled[2:])
            elif event < 0.25:
                hub.partition()
            elif event < 0.35:
                await networks[restarts].disconnect()
                await start(restarts)
                await networks[restarts].broadcast(KIND, FIELDS)
                sent[restarts] = 1
            elif event < 0.5:
                await draw.choice(list(networks.values())).sync()
            if step == 40:
                await start(late)
            hub.advance(draw.uniform(0.0, 2.0))
        hub.partition()
        hub.advance(10.0)
        for _ in range(12):  # it still rains
            for network in networks.values():
                await network.sync()
        for recorder in recorders.values():
            assert set(recorder.keys().values()) <= {1}  # over all starts
        for name, other in itertools.permutations(names, 2):
            # Of a restarted peer, the messages of its last start are owed.
            epochs = {d.epoch for d in recorders[name].received if d.sender == other}
            last = [
                d.sequence
                for d in recorders[name].received
                if d.sender == other and d.epoch == max(epochs)
            ]
            assert sorted(last) == list(range(1, sent[other] + 1))
        for network in networks.values():
            assert set(network.status().counters.refused) <= {"replay", "stale_epoch"}
            await network.disconnect()

    return test


@pytest.mark.parametrize("seed", range(4))
def test_every_message_is_delivered_exactly_once_under_faults(seed, tmp_path):
    asyncio.run(faults(seed)(tmp_path))


@run
async def test_the_same_seed_gives_the_same_faults():
    async def received(seed):
        hub = hub_of(loss=0.4, delay_s=5.0, seed=seed)
        networks, recorders = await peers_of(hub)
        for _ in range(30):
            await networks["peer0"].broadcast(KIND, FIELDS)
            await networks["peer1"].broadcast(KIND, FIELDS)
            hub.advance(1.0)
        return [(d.sender, d.sequence) for d in recorders["peer2"].received]

    assert await received(1) == await received(1) != await received(2)
