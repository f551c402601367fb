"""Populations of peers in one program, and what can go wrong between them."""
