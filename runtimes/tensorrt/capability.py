"""What a precision asks of a GPU."""

from __future__ import annotations

from relo_edge.errors import RuntimeUnavailable

__all__ = ["check_capability"]

LEAST_CAPABILITY = {"fp8": (8, 9)}


def check_capability(precision: str, gpu: str, capability: tuple[int, int]) -> None:
    """Refuse a precision that this GPU has no arithmetic for.

    Raises:
        RuntimeUnavailable: the compute capability is too low.
    """
    least = LEAST_CAPABILITY.get(precision, (0, 0))
    if capability < least:
        raise RuntimeUnavailable(
            f"{precision} on {gpu}",
            found="compute capability {}.{}".format(*capability),
            expected="{}.{} or newer".format(*least),
            fix="use --fp16 or --int8",
        )
