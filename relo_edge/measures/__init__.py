"""What counts as the same tracker, and as a good one."""
