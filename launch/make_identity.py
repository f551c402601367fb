"""Makes keys and certificates of a network of peers, from a clone."""

from p2p_sac_jax.commands.make_identity import main

if __name__ == "__main__":
    main()
