"""Experiments: where the pure program meets files, clocks, devices and signals."""
