"""Many sources on one runtime."""
