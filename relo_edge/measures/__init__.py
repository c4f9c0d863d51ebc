"""Measures and gates: accuracy, tensor errors, closed loop."""
