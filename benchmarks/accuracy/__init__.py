"""How well a tracker tracks datasets, and the comparison of two results."""
