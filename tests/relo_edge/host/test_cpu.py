"""What the operating system says of the CPU."""

import pytest

from relo_edge.host import cpu


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("model name\t: EPYC\nflags\t\t: fpu fma avx avx2\n", False),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("Features\t: fp asimd asimddp\n", True),
        ("", True),
    ],
)
def test_int8_is_exact_but_on_an_x86_without_vnni(monkeypatch, text, exact):
    monkeypatch.setattr(cpu, "read_text", {"/proc/cpuinfo": text}.__getitem__)
    assert cpu.has_exact_int8() is exact
