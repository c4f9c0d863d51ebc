"""Trackers that are no bundles: OpenCV's own, and R1-Track behind a server."""
