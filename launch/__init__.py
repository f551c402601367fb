"""Programs run from a clone, ``python -m launch.train``; the package has them all."""
