"""Rewrites reports, from a clone."""

from p2p_sac_jax.commands.report import main

if __name__ == "__main__":
    main()
