"""Training: stages, losses, synthetic and real clips, and the run that ties them together."""
