"""Clipping, noise and the accounting of differential privacy."""
