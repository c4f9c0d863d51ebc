"""Whether a runtime is still the same tracker, and why if it is not."""
