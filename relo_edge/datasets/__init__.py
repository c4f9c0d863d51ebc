"""Public tracking datasets as they lie on disk, read into sequences."""
