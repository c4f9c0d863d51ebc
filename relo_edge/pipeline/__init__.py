"""What the verbs do, callable from Python."""
