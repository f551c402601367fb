"""Presets: each module defines ``get_config()`` for ``--config=X``."""
