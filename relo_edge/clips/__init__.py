"""Clips to measure and calibrate with: from videos, folders and built-in ones."""
