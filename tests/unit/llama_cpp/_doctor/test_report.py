"""The doctor's and select's answers, as text and as JSON."""

from __future__ import annotations

import json

import pytest

from llama_cpp._doctor.accelerators import Vulkan
from llama_cpp._doctor.advice import Choice
from llama_cpp._doctor.backends import Step
from llama_cpp._doctor.diagnosis import examine
from llama_cpp._doctor.report import (
    doctor_record,
    doctor_text,
    select_record,
    select_text,
    steps_text,
)

from .machines import ARC, H100, NO_VULKAN_LOADER, driver, facts, gpu_trial

STEPS = (
    Step("file", '[[tool.x]]\nurl = "u"\n', "pyproject.toml"),
    Step("command", "uv sync"),
)
CHOICE = Choice("cpu", "no GPU", "https://host.example/whl/cpu/", (("cuda", "no driver"),))


def test_text() -> None:
    machine = facts("cu128", trial=gpu_trial(), nvidia=driver("12.8", H100))
    text = doctor_text(machine, examine(machine))
    for line in (
        "  libc:          glibc 2.36",
        "  CPU:           Intel(R) Core(TM) i7, x86-64-v3; ggml runs libggml-cpu-haswell.so",
        "  tool:          pip (for this test)",
        "  NVIDIA driver: 570.86.15, CUDA 12.8 (says NVML)",
        "  GPU:           NVIDIA H100 80GB HBM3, compute 9.0, 80.0 GiB",
        "  ROCm:          not found",
        "  version:       0.3.100+cu128, installed by pip",
        "  backend:       cu128",
        "  llama.cpp:     0.5.0-dev, commit 0c1e57098bba43ac29e6e3b677cdceebdd22334f",
        "  toolkit:       CUDA 12.8",
        "  options:       GGML_NATIVE=OFF",
        "  device:        CUDA0, NVIDIA GPU, 24.0 GiB",
        "  nvcc:          not found",
        "  GPU code:      -DCMAKE_CUDA_ARCHITECTURES=90",
        "  ok:       gpu-used: ggml computes on CUDA0 NVIDIA GPU",
    ):
        assert f"\n{line}\n" in text, line


def test_a_finding_has_its_cure_and_its_commands() -> None:
    machine = facts(nvidia=driver("12.8", H100))
    text = doctor_text(machine, examine(machine))
    assert (
        "  warning:  gpu-unused: the CPU wheel is installed, but NVIDIA H100 80GB HBM3: driver "
        "570.86.15 speaks CUDA 12.8; cu128 is the best fit\n"
        "    -> switch to cu128\n"
        "      pip install --index-url https://"
    ) in text


def test_the_last_line_is_the_verdict() -> None:
    machine = facts(nvidia=driver("12.8", H100), environment={"LLAMA_CUBLAS": "1"})
    assert doctor_text(machine, examine(machine)).endswith("\n\nTo be mended: gpu-unused.\n")
    machine = facts()
    assert doctor_text(machine, examine(machine)).endswith(
        "\n  ok:       cpu-fits: cpu is the best backend here: no GPU that a wheel could use was "
        "found\n\nNothing is to be mended.\n"
    )


def test_notes_about_a_source_build_are_in_its_section() -> None:
    machine = facts(tools={"git": None})
    builds, findings = doctor_text(machine, examine(machine)).split("\nFindings\n")
    assert "  temporary:     /tmp\n  note:     build-no-git: no git: a build from " in builds
    assert "build-" not in findings


def test_what_says_nothing_about_this_machine_is_left_out() -> None:
    machine = facts()
    text = doctor_text(machine, examine(machine))
    assert [word for word in ("Metal:", "toolkit:", "GPU code:") if word in text] == []


@pytest.mark.parametrize(
    ("vulkan", "shown"),
    [
        pytest.param(NO_VULKAN_LOADER, "not found", id="missing"),
        pytest.param(
            Vulkan(None, (), "libvulkan.so.1: invalid ELF header"),
            "broken (libvulkan.so.1: invalid ELF header)",
            id="broken",
        ),
        pytest.param(
            Vulkan("libvulkan.so.1", (), "vkCreateInstance gave -9: there is no Vulkan driver"),
            "libvulkan.so.1 (vkCreateInstance gave -9: there is no Vulkan driver)",
            id="no-driver",
        ),
        pytest.param(Vulkan("libvulkan.so.1", (ARC,), None), "libvulkan.so.1", id="well"),
    ],
)
def test_vulkan(vulkan: Vulkan, shown: str) -> None:
    machine = facts(vulkan=vulkan)
    assert f"\n  Vulkan:        {shown}\n" in doctor_text(machine, examine(machine))


def test_json() -> None:
    machine = facts("cu128", trial=gpu_trial(), nvidia=driver("12.8", H100))
    record = json.loads(json.dumps(doctor_record(machine, examine(machine), fits=True)))
    assert (record["schema"], record["fits"]) == (1, True)
    assert set(record) == {
        "schema",
        "fits",
        "system",
        "accelerators",
        "installation",
        "trial",
        "project",
        "build_tools",
        "environment",
        "model",
        "findings",
    }
    assert record["accelerators"]["nvidia"]["gpus"][0]["compute"] == [9, 0]
    assert record["findings"][0] == {
        "id": "wheel-fits",
        "level": "ok",
        "message": "the wheel manylinux_2_17_x86_64 is for this system",
        "cure": "",
        "steps": [],
    }


def test_select() -> None:
    assert select_text(CHOICE, "uv", "found uv.lock", STEPS) == (
        "cpu: no GPU\n"
        "  (not cuda: no driver)\n"
        "index: https://host.example/whl/cpu/\n"
        "\n"
        "With uv (found uv.lock):\n"
        "  in pyproject.toml:\n"
        "    [[tool.x]]\n"
        '    url = "u"\n'
        "  uv sync\n"
    )
    assert select_record(CHOICE, "uv", STEPS) == {
        "schema": 1,
        "backend": "cpu",
        "why": "no GPU",
        "index": "https://host.example/whl/cpu/",
        "passed_over": [{"backend": "cuda", "why": "no driver"}],
        "tool": "uv",
        "steps": [
            {"kind": "file", "text": '[[tool.x]]\nurl = "u"\n', "path": "pyproject.toml"},
            {"kind": "command", "text": "uv sync", "path": None},
        ],
    }


def test_no_steps() -> None:
    assert steps_text(()) == []
