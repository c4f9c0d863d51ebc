"""The runtimes: each opens a bundle and steps a batch of targets, behind one protocol."""
