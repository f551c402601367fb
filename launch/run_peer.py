"""Runs one peer on a real network, from a clone."""

from p2p_sac_jax.commands.run_peer import main

if __name__ == "__main__":
    main()
