"""Tracks as labels that people can correct: CVAT, Label Studio and COCO files."""
