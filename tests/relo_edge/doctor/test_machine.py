"""Python, CPU, memory and Jetson release, from recorded texts."""

import pytest

from relo_edge.doctor.machine import judge_machine

EPYC = """\
processor	: 0
vendor_id	: AuthenticAMD
model name	: AMD EPYC
flags		: fpu sse sse2 ssse3 fma sse4_2 avx f16c avx2 bmi2 avx512f avx512dq avx512bw avx512vl \
avx_vnni avx512_bf16 avx512_vnni avx512_bitalg
bugs		: spectre_v1
processor	: 1
vendor_id	: AuthenticAMD
model name	: AMD EPYC
flags		: fpu sse sse2 ssse3 fma sse4_2 avx f16c avx2 bmi2 avx512f avx512dq avx512bw avx512vl \
avx_vnni avx512_bf16 avx512_vnni avx512_bitalg
"""

SAPPHIRE_RAPIDS = """\
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu avx avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8
"""

COFFEE_LAKE = """\
model name	: Intel(R) Core(TM) i7-9850H CPU @ 2.60GHz
flags		: fpu sse sse2 ssse3 fma sse4_2 avx f16c avx2 bmi2
"""

GOLDMONT = """\
model name	: Intel(R) Celeron(R) CPU J3455 @ 1.50GHz
flags		: fpu sse sse2 ssse3 sse4_1 sse4_2 sha_ni
"""

ORIN = """\
processor	: 0
model name	: ARMv8 Processor rev 1 (v8l)
BogoMIPS	: 62.50
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp uscat ilrcpc flagm paca pacg
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd42
CPU revision	: 1
"""

RK3588 = """\
Features	: fp asimd aes crc32 atomics fphp asimdhp asimddp
CPU implementer	: 0x41
CPU part	: 0xd05
Features	: fp asimd aes crc32 atomics fphp asimdhp asimddp
CPU implementer	: 0x41
CPU part	: 0xd0b
"""

PI_4 = """\
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08
"""

GRAVITON_3 = """\
Features	: fp asimd fphp asimdhp asimddp sve bf16 i8mm
CPU implementer	: 0x41
CPU part	: 0xd40
"""

MEMORY = "MemTotal:       24623664 kB\nMemFree:         1000000 kB\nMemAvailable:   22123456 kB\n"

JETPACK_6 = """\
# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 \
01:49:37 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
"""

JETPACK_5 = """\
# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 \
19:57:35 UTC 2023
"""

NO_BF16 = "OpenVINO bf16 does not pay here, float32 does"

ORIN_NANO = "NVIDIA Jetson Orin Nano Developer Kit"


def judge(evidence):
    return {finding.subject: finding for finding in judge_machine(evidence)}


@pytest.mark.parametrize(
    ("cpuinfo", "name", "instructions"),
    [
        (EPYC, "AMD EPYC", "AVX2 AVX-512 VNNI BF16 (no AMX): OpenVINO bf16 pays here"),
        (
            SAPPHIRE_RAPIDS,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "AVX2 AVX-512 VNNI BF16 AMX: OpenVINO bf16 pays here",
        ),
        (
            COFFEE_LAKE,
            "Intel(R) Core(TM) i7-9850H CPU @ 2.60GHz",
            f"AVX2 (no AVX-512, VNNI, BF16, AMX): {NO_BF16}",
        ),
        (
            ORIN,
            "Cortex-A78AE",
            f"NEON fp16 dotprod (no bf16, i8mm): {NO_BF16}",
        ),
        (
            RK3588,
            "Cortex-A55 + Cortex-A76",
            f"NEON fp16 dotprod (no bf16, i8mm): {NO_BF16}",
        ),
        (
            PI_4,
            "Cortex-A72",
            f"NEON (no fp16, dotprod, bf16, i8mm): {NO_BF16}",
        ),
        (
            GRAVITON_3,
            "Neoverse-V1",
            f"NEON fp16 dotprod bf16 i8mm: {NO_BF16}",
        ),
    ],
)
def test_a_recorded_cpu_is_named_with_the_precision_that_suits_it(
    record, cpuinfo, name, instructions
):
    findings = judge(record(cpuinfo=cpuinfo, cores=2))
    assert findings["cpu"].detail == f"{name}, 2 cores usable"
    assert (findings["instructions"].mark, findings["instructions"].detail) == ("ok", instructions)


def test_a_cpu_without_avx2_is_warned_of(record):
    finding = judge(record(cpuinfo=GOLDMONT))["instructions"]
    assert finding.mark == "warning"
    assert finding.detail == (
        "(no AVX2, AVX-512, VNNI, BF16, AMX): without AVX2 every CPU runtime is slow here"
    )


def test_an_unknown_arm_core_is_told_by_its_numbers(record):
    cpuinfo = "Features : fp asimd\nCPU implementer : 0x61\nCPU part : 0x022\n"
    assert judge(record(cpuinfo=cpuinfo))["cpu"].detail.startswith("ARM core 0x61/0x022,")


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", "AMD EPYC, 16 cores usable"),
        ("1600000 100000\n", "AMD EPYC, 16 cores usable"),
        ("150000 100000\n", "AMD EPYC, the time of 2 out of 16 cores (a container's quota)"),
    ],
)
def test_a_containers_quota_counts(record, quota, expected):
    assert judge(record(cpuinfo=EPYC, cores=16, cpu_quota=quota))["cpu"].detail == expected


def test_a_system_without_proc_still_gets_its_lines(record):
    findings = judge(record(cores=8))
    assert set(findings) == {"python", "cpu"}
    assert findings["cpu"].detail == "unknown CPU, 8 cores usable"


def test_memory_is_told_in_gib(record):
    assert judge(record(meminfo=MEMORY))["memory"].detail == "23.5 GiB, 21.1 GiB of it free"


def test_an_old_kernels_memory_is_told_without_its_estimate(record):
    meminfo = "MemTotal:       4194304 kB\nMemFree:         1048576 kB\n"
    assert judge(record(meminfo=meminfo))["memory"].detail == "4.0 GiB, 1.0 GiB of it free"


def test_a_jetson_shares_its_memory_with_the_gpu(record):
    finding = judge(record(meminfo=MEMORY, board=ORIN_NANO))["memory"]
    assert finding.detail.endswith("shared with the GPU")


def test_a_jetson_is_told_with_its_jetpack(record):
    finding = judge(record(board=ORIN_NANO, tegra_release=JETPACK_6))["jetson"]
    assert (finding.mark, finding.detail) == ("ok", f"{ORIN_NANO}, L4T 36.4.3 (JetPack 6)")


def test_an_old_jetpack_is_warned_of(record):
    finding = judge(record(board=ORIN_NANO, tegra_release=JETPACK_5))["jetson"]
    assert (finding.mark, finding.fix) == ("warning", "install JetPack 6.1 or newer")
    assert "L4T 35.4.1 (JetPack 5)" in finding.detail


def test_the_first_jetpack_6_has_an_old_tensorrt(record):
    release = JETPACK_6.replace("REVISION: 4.3", "REVISION: 3.0")
    finding = judge(record(board=ORIN_NANO, tegra_release=release))["jetson"]
    assert (finding.mark, finding.fix) == ("warning", "install JetPack 6.1 or newer")


def test_a_jetson_whose_release_a_container_hides_is_still_a_jetson(record):
    finding = judge(record(board=ORIN_NANO))["jetson"]
    assert (finding.mark, finding.detail.split(",")[0]) == ("warning", ORIN_NANO)


def test_any_other_board_is_just_named(record):
    findings = judge(record(board="Raspberry Pi 5 Model B Rev 1.0"))
    assert findings["board"].detail == "Raspberry Pi 5 Model B Rev 1.0"
    assert "jetson" not in findings
