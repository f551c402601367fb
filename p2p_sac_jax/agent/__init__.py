"""The deployable peer: one process on a real network, driving the same functions."""
