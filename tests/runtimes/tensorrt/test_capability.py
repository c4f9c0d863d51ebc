"""A precision without arithmetic on a GPU is refused by name."""

import pytest

from relo_edge.errors import RuntimeUnavailable
from relo_edge.runtimes.tensorrt.capability import check_capability


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (12, 0)])
def test_fp8_runs_from_ada_on(capability):
    check_capability("fp8", "a GPU", capability)


@pytest.mark.parametrize("capability", [(7, 5), (8, 7)])
def test_fp8_is_refused_below(capability):
    found = "Orin: found compute capability {}.{}, expected 8.9".format(*capability)
    with pytest.raises(RuntimeUnavailable, match=found):
        check_capability("fp8", "Orin", capability)
    check_capability("int8", "Orin", capability)
