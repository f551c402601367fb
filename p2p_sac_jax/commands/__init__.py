"""The programs: what the console scripts and ``launch`` run."""
