"""Frames in and pictures out."""
