"""Signed messages between peers: envelopes, admission, logs, delivery."""
