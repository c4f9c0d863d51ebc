"""A candidate beside its reference, as `parity` holds them."""

from relo_edge.benchmarks.rollout import compare_clips, find_stretches, track_nudged


def compare_sides(reference, candidate, stretches=None, advance=lambda: None):
    """Rollouts of the built-in clips, or of the stretches given."""
    stretches = find_stretches([]) if stretches is None else stretches
    nudged = track_nudged(reference, stretches, advance)
    return compare_clips(reference, candidate, stretches, nudged, advance)
