"""The verbs of the command line: one thin function each; the work is done elsewhere."""
