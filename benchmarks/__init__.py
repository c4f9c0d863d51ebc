"""Is it the same tracker, and how fast: parity, latency, accuracy, and the report."""
