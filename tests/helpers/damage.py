"""Random damage to files."""


def damaged(content, rng):
    """Content with a flipped bit, a lost end, lost bytes, zeros, or other bytes."""
    place, kind = rng.randrange(len(content)), rng.random()
    changed = bytearray(content)
    if kind < 0.5:
        changed[place] ^= 1 << rng.randrange(8)
    elif kind < 0.7:
        del changed[place:]
    elif kind < 0.8:
        del changed[place : place + rng.randrange(1, 40)]
    elif kind < 0.9:
        changed[place : place + 8] = bytes(8)
    else:
        changed[place:place] = rng.randbytes(3)
    return bytes(changed)
