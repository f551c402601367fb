"""Trains a population, from a clone."""

from p2p_sac_jax.commands.train import main

if __name__ == "__main__":
    main()
