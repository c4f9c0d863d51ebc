"""The loop behind `track`: targets, outputs, overlay and the demo."""
