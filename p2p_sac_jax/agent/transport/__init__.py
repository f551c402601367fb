"""Transports of bytes between peers: in one process, or over eclipse-zenoh."""
