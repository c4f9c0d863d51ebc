"""The reference network: RELO in PyTorch, equal to the authors' release."""
