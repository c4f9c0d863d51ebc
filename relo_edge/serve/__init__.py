"""The live page: a browser across the room sees the picture, starts targets and records."""
