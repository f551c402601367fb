"""Grids of runs: what to run, in which batches, what came out, what it proves."""
