"""Programs that prepare files of this repository."""
