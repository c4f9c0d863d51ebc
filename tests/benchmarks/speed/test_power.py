"""Lines of tegrastats from several boards, and the watts in them."""

import pytest

from relo_edge.benchmarks.speed.power import parse_power

ORIN = (
    "RAM 4721/30536MB (lfb 5904x4MB) SWAP 0/15268MB (cached 0MB) CPU [2%@729,1%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305,0] VIC_FREQ 115 cv0@-256C CPU@46.5C tboard@37.1C "
    "VDD_GPU_SOC 3201mW/3201mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 3630mW/3630mW"
)
ORIN_NANO = (
    "RAM 2148/7471MB (lfb 2x4MB) CPU [8%@1510,3%@1510] GR3D_FREQ 42% gpu@50.1C "
    "VDD_IN 5042mW/4987mW VDD_CPU_GPU_CV 803mW/790mW VDD_SOC 1487mW/1480mW"
)
NANO = (
    "RAM 1203/3956MB (lfb 445x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [10%@1479,5%@1479,4%@1479,2%@1479] EMC_FREQ 4%@1600 GR3D_FREQ 99%@921 APE 25 "
    "PLL@33.5C CPU@36.5C thermal@36C POM_5V_IN 6211/4305 POM_5V_GPU 2460/1021 POM_5V_CPU 738/563"
)
XAVIER = (
    "RAM 2570/15692MB (lfb 2996x4MB) CPU [1%@1190,0%@1190] EMC_FREQ 0% GR3D_FREQ 0% "
    "AO@36C GPU@35.5C GPU 2171/2171 CPU 310/310 SOC 931/931 CV 0/0 VDDRQ 155/155 SYS5V 1876/1876"
)


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        (ORIN, 3.630 + 3.201 + 0.4),
        (ORIN_NANO, 5.042),
        (NANO, 6.211),
        (XAVIER, 2.171 + 0.310 + 0.931 + 0.155 + 1.876),
        ("RAM 2570/15692MB (lfb 2996x4MB) CPU [1%@1190]", None),
        ("", None),
    ],
)
def test_the_board_is_what_counts(line, watts):
    assert parse_power(line) == (pytest.approx(watts) if watts else None)
