"""Clips drawn from nothing but a seed, with their truth."""
