"""Ablations: ``get_config()`` as in any preset; ``ARMS``, ``SWEEP`` say what varies."""
