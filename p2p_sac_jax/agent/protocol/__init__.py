"""Signed messages between peers: envelopes, admission, logs and delivery."""
