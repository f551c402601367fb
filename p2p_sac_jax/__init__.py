"""Population-vmapped Soft Actor-Critic whose peers learn together."""
