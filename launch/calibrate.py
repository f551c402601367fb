"""Regenerates the calibration table, from a clone."""

from p2p_sac_jax.commands.calibrate import main

if __name__ == "__main__":
    main()
