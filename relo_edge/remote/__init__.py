"""Trackers whose network runs in another process or on another machine."""
