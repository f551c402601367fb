"""The queue between a transport's threads and the event loop."""

from __future__ import annotations

import asyncio
import threading

from p2p_sac_jax.agent.protocol.delivery import Inbox


def run(sources, fill, *, max_items=1000, max_bytes=1000, deliver=None):
    """What is delivered of what ``fill`` pushes, and the inbox."""
    taken = []

    async def main():
        loop = asyncio.get_running_loop()
        inbox = Inbox(
            loop,
            sources,
            deliver or (lambda *entry: taken.append(entry)),
            max_items=max_items,
            max_bytes=max_bytes,
        )
        fill(inbox)
        for _ in range(100):
            await asyncio.sleep(0)
        return inbox

    return taken, asyncio.run(main())


def test_a_flood_takes_turns_and_displaces_nobody():
    def fill(inbox):
        assert [inbox.push("loud", n, 1) for n in range(9)] == [True] * 4 + [False] * 5
        assert inbox.push("calm", 0, 1)
        assert inbox.push("calm", 1, 1)

    taken, inbox = run(["loud", "calm"], fill, max_items=4)
    assert taken == [
        ("loud", 0),
        ("calm", 0),
        ("loud", 1),
        ("calm", 1),
        ("loud", 2),
        ("loud", 3),
    ]
    assert inbox.dropped == 5


def test_bytes_are_bounded_and_come_free():
    def fill(inbox):
        assert inbox.push("a", "x", 600)
        assert not inbox.push("a", "y", 401)
        assert inbox.push("a", "z", 400)

    taken, inbox = run(["a"], fill)
    assert taken == [("a", "x"), ("a", "z")]
    assert inbox.push("a", "w", 1000) is False  # its loop has closed


def test_items_of_unknown_sources_are_dropped():
    taken, inbox = run(["a"], lambda inbox: inbox.push("b", 0, 1))
    assert taken == []
    assert inbox.dropped == 1


def test_a_closed_inbox_delivers_nothing():
    def fill(inbox):
        inbox.push("a", 0, 1)
        inbox.close()
        assert not inbox.push("a", 1, 1)

    assert run(["a"], fill)[0] == []


def test_a_consumer_that_fails_gets_the_next():
    taken = []

    def deliver(source, item):
        taken.append(item)
        if item == 0:
            raise RuntimeError("no")

    run(["a"], lambda inbox: [inbox.push("a", n, 1) for n in range(3)], deliver=deliver)
    assert taken == [0, 1, 2]


def test_every_item_of_many_threads_is_delivered_once_and_in_order():
    def fill(inbox):
        def push(source):
            for n in range(200):
                inbox.push(source, n, 1)

        threads = [threading.Thread(target=push, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    taken, inbox = run("abcd", fill)
    assert inbox.dropped == 0
    for name in "abcd":
        assert [item for source, item in taken if source == name] == list(range(200))
