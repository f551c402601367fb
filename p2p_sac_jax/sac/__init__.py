"""The learner: Soft Actor-Critic for one peer, its networks and its replay."""
