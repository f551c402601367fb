"""The benchmark: whole training steps against what the machine can do."""
