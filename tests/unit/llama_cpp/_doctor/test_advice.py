"""Which backend for which machine."""

from __future__ import annotations

from typing import Any

import pytest

from llama_cpp._doctor.accelerators import Rocm, Vulkan
from llama_cpp._doctor.advice import choose, forced
from llama_cpp._doctor.system import System

from .machines import (
    ALPINE,
    ARC,
    ARM_LINUX,
    B200,
    BROKEN_DRIVER,
    GB10,
    GTX_780,
    GTX_1080,
    H100,
    INTEL_MAC,
    LINUX,
    LLVMPIPE,
    MAC,
    OLD_GLIBC,
    PUBLISHED,
    RISCV,
    ROSETTA,
    RTX_3090,
    RTX_4090,
    RTX_5090,
    RX_580,
    RX_7900,
    WINDOWS,
    WINDOWS_ARM,
    driver,
    hardware,
)

ARC_VULKAN = Vulkan("libvulkan.so.1", (LLVMPIPE, ARC), None)

MACHINES: list[tuple[str, System, dict[str, Any], str | None, str]] = [
    (
        "h100-12.8",
        LINUX,
        {"nvidia": driver("12.8", H100)},
        "cu128",
        "NVIDIA H100 80GB HBM3: driver 570.86.15 speaks CUDA 12.8; cu128 is the best fit",
    ),
    ("h100-12.4", LINUX, {"nvidia": driver("12.4", H100)}, "cu124", "cu124 is the best fit"),
    ("h100-12.7", LINUX, {"nvidia": driver("12.7", H100)}, "cu126", "cu126 is the best fit"),
    ("h100-13.1", LINUX, {"nvidia": driver("13.1", H100)}, "cu130", "cu130 is the best fit"),
    # older than every toolkit, but of the same major version: machine code runs
    ("rtx3090-12.0", LINUX, {"nvidia": driver("12.0", RTX_3090)}, "cu121", "best fit"),
    ("rtx5090-12.8", LINUX, {"nvidia": driver("12.8", RTX_5090)}, "cu128", "best fit"),
    ("rtx5090-13.0", LINUX, {"nvidia": driver("13.0", RTX_5090)}, "cu130", "best fit"),
    ("rtx4090-windows", WINDOWS, {"nvidia": driver("12.6", RTX_4090)}, "cu126", "best fit"),
    # CUDA 13 has dropped Pascal; B200 (10.0) takes Hopper's PTX, the other Blackwell's is not for it
    ("gtx1080-13.0", LINUX, {"nvidia": driver("13.0", GTX_1080)}, "cu128", "best fit"),
    (
        "b200-12.8",
        LINUX,
        {"nvidia": driver("12.8", B200)},
        "cu128",
        "cu128 is the best fit; the driver compiles its kernels at the first start",
    ),
    (
        "gb10-arm",
        ARM_LINUX,
        {"nvidia": driver("13.0", GB10)},
        "cu130",
        "the driver compiles its kernels at the first start",
    ),
    ("two-gpus", LINUX, {"nvidia": driver("13.0", GTX_1080, RTX_5090)}, "cu128", "best fit"),
    (
        "a-gpu-too-old",
        LINUX,
        {"nvidia": driver("13.0", GTX_780, RTX_4090)},
        "cu130",
        "1 other GPU(s) here cannot run it",
    ),
    (
        "compute-unknown",
        LINUX,
        {"nvidia": driver("12.4", H100._replace(compute=None))},
        "cu124",
        "",
    ),
    ("driver-11.8", LINUX, {"nvidia": driver("11.8", RTX_3090)}, "cpu", "no GPU that a wheel"),
    ("kepler", LINUX, {"nvidia": driver("11.4", GTX_780)}, "cpu", "no GPU that a wheel"),
    ("driver-without-gpu", LINUX, {"nvidia": driver("12.8")}, "cpu", "no GPU that a wheel"),
    ("nvml-broken", LINUX, {"nvidia": BROKEN_DRIVER}, "cpu", "no GPU that a wheel"),
    ("no-driver", LINUX, {"adapters": ("NVIDIA",)}, "cpu", "no GPU that a wheel"),
    ("nvidia-on-alpine", ALPINE, {"nvidia": driver("12.8", H100)}, "cpu", "no GPU that a wheel"),
    ("nothing", LINUX, {}, "cpu", "no GPU that a wheel could use was found"),
    ("alpine", ALPINE, {}, "cpu", "no GPU"),
    ("arm-linux", ARM_LINUX, {}, "cpu", "no GPU"),
    ("windows-arm", WINDOWS_ARM, {}, "cpu", "no GPU"),
    ("apple-silicon", MAC, {"metal": True}, "metal", "Apple silicon: its GPU speaks Metal"),
    ("rosetta", ROSETTA, {"metal": True}, "cpu", "no GPU"),
    ("intel-mac", INTEL_MAC, {}, "cpu", "no GPU"),
    (
        "rocm",
        LINUX,
        {"rocm": Rocm("7.0.2", "/opt/rocm", (RX_7900,)), "vulkan": ARC_VULKAN},
        "rocm7x",
        "AMD Radeon RX 7900 XTX (gfx1100): ROCm 7.0.2 is installed",
    ),
    (
        "rocm-6",
        LINUX,
        {"rocm": Rocm("6.4.3", "/opt/rocm", (RX_7900,)), "vulkan": ARC_VULKAN},
        "rocm6x",
        "AMD Radeon RX 7900 XTX (gfx1100): ROCm 6.4.3 is installed",
    ),
    (
        "rocm-of-no-wheel",
        LINUX,
        {"rocm": Rocm("5.7.1", "/opt/rocm", (RX_7900,)), "vulkan": ARC_VULKAN},
        "vulkan",
        "reached through Vulkan 1.3",
    ),
    (
        "amd-without-rocm",
        LINUX,
        {"rocm": Rocm(None, None, (RX_7900,)), "vulkan": ARC_VULKAN},
        "vulkan",
        "reached through Vulkan 1.3",
    ),
    (
        "amd-too-old",
        LINUX,
        {"rocm": Rocm("7.0.2", "/opt/rocm", (RX_580,))},
        "cpu",
        "no GPU that a wheel",
    ),
    (
        "intel-arc",
        WINDOWS,
        {"vulkan": ARC_VULKAN},
        "vulkan",
        "Intel(R) Arc(tm) A770 Graphics (DG2): reached through Vulkan 1.3",
    ),
    ("lavapipe", LINUX, {"vulkan": Vulkan("v", (LLVMPIPE,), None)}, "cpu", "no GPU"),
    ("intel-without-vulkan", LINUX, {"adapters": ("Intel",)}, "cpu", "no GPU"),
    (
        "old-glibc",
        OLD_GLIBC,
        {},
        None,
        "with glibc: it needs glibc 2.17, this is glibc 2.12; build from source with `pip install`",
    ),
    ("riscv", RISCV, {}, None, "there is no wheel for linux riscv64 with glibc; build from source"),
]


@pytest.mark.parametrize(
    ("system", "found", "backend", "why"),
    [pytest.param(*machine[1:], id=machine[0]) for machine in MACHINES],
)
def test_choice(system: System, found: dict[str, Any], backend: str | None, why: str) -> None:
    choice = choose(system, hardware(**found), PUBLISHED)
    assert choice.backend == backend
    assert why in choice.why
    expected = None if backend is None else f"{PUBLISHED.site}whl/{backend}/"
    assert choice.url == expected


@pytest.mark.parametrize(
    ("system", "found", "passed_over"),
    [
        (
            LINUX,
            {"nvidia": driver("11.8", RTX_3090)},
            ("cuda", "driver 570.86.15 speaks CUDA 11.8, too old for every CUDA wheel (update the driver)"),
        ),
        (
            LINUX,
            {"nvidia": BROKEN_DRIVER},
            ("cuda", "NVIDIA's driver does not answer (Driver/library version mismatch)"),
        ),
        (LINUX, {"adapters": ("NVIDIA",)}, ("cuda", "there is an NVIDIA GPU, but no driver for it")),
        (
            ALPINE,
            {"nvidia": driver("12.8", H100)},
            ("cuda", "there is no CUDA wheel for this platform (NVIDIA H100 80GB HBM3)"),
        ),
        (
            LINUX,
            {"nvidia": driver("13.0", GTX_780)},
            ("cuda", "no CUDA wheel has code for NVIDIA GeForce GTX 780 with this driver (driver 570.86.15 speaks CUDA 13.0)"),
        ),
        (
            LINUX,
            {"rocm": Rocm("7.0", "/opt/rocm", (RX_580,))},
            ("rocm", "the rocm7x wheel has no code for AMD Radeon RX 580 (gfx803)"),
        ),
        (
            LINUX,
            {"rocm": Rocm("5.7.1", "/opt/rocm", (RX_7900,))},
            ("rocm", "there is no wheel for ROCm 5.7.1 (AMD Radeon RX 7900 XTX (gfx1100))"),
        ),
        (
            LINUX,
            {"rocm": Rocm(None, None, (RX_7900,))},
            ("rocm", "ROCm's runtime is not installed (AMD Radeon RX 7900 XTX (gfx1100))"),
        ),
        (
            WINDOWS,
            {"rocm": Rocm(None, None, (RX_7900,))},
            ("rocm", "there is no ROCm wheel for this platform (AMD Radeon RX 7900 XTX (gfx1100))"),
        ),
        (LINUX, {"adapters": ("Intel",)}, ("vulkan", "there is a GPU of Intel, but Vulkan shows none")),
        (
            MAC._replace(machine="x86_64"),
            {"metal": True},
            ("metal", "this Python is not for Apple silicon: install an arm64 Python for the GPU"),
        ),
    ],
)  # fmt: skip
def test_what_was_passed_over_says_why(
    system: System, found: dict[str, Any], passed_over: tuple[str, str]
) -> None:
    choice = choose(system, hardware(**found), PUBLISHED)
    assert choice.backend == "cpu"
    assert choice.passed_over == (passed_over,)


def test_another_site() -> None:
    published = PUBLISHED._replace(site="http://127.0.0.1:8000")
    assert choose(LINUX, hardware(), published).url == "http://127.0.0.1:8000/whl/cpu/"


def test_forced() -> None:
    choice = forced("cu124", LINUX, PUBLISHED)
    assert (choice.backend, choice.why) == ("cu124", "NVIDIA CUDA 12.4, as you asked")
    there_is_none = forced("metal", LINUX, PUBLISHED).why
    assert there_is_none == (
        "Apple Metal, as you asked; there is no metal wheel for this machine (linux x86_64)"
    )


def test_forced_to_what_does_not_exist() -> None:
    for name in ("cu999", "cu128.1"):
        with pytest.raises(KeyError):
            forced(name, LINUX, PUBLISHED)
