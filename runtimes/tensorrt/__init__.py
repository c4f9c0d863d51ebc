"""Engines built from a bundle's graphs, and the runtime that runs them; also for RTX."""
