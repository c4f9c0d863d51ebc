"""Hours of tracking: what memory, files and latency do."""
