"""Whether a runtime is still the same tracker, and what explains it when it is not."""
