"""Computes a grid of runs, from a clone."""

from p2p_sac_jax.commands.ablate import main

if __name__ == "__main__":
    main()
