"""NVIDIA's driver, asked through a stand-in for its CUDA library."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from llama_cpp import _cuda_driver
from llama_cpp._cuda_driver import CudaDriverError, Gpu
from tests.gpu_machine import DRIVER, compile_library

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is Linux's")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(
        str(compile_library(tmp_path_factory.mktemp("driver") / "libfake.so", DRIVER))
    )


@pytest.mark.parametrize(
    ("number", "version"), [("12080", (12, 8)), ("13000", (13, 0)), ("0", None)]
)
def test_version(
    driver: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    version: tuple[int, int] | None,
) -> None:
    monkeypatch.setitem(os.environ, "FAKE_CUDA", number)
    assert _cuda_driver.cuda_version(driver) == version


def test_gpus(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPUS", "61 90 120")
    assert _cuda_driver.gpus(driver) == (
        Gpu("NVIDIA Stand-in 61", (6, 1)),
        Gpu("NVIDIA Stand-in 90", (9, 0)),
        Gpu("NVIDIA Stand-in 120", (12, 0)),
    )


def test_no_gpu_is_no_error(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_INIT", "100")
    assert _cuda_driver.gpus(driver) == ()


def test_a_driver_that_does_not_start(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_INIT", "999")
    with pytest.raises(CudaDriverError, match=r"^unknown error$") as caught:
        _cuda_driver.gpus(driver)
    assert caught.value.status == 999


def test_a_library_that_is_no_driver(tmp_path: Path) -> None:
    file = compile_library(tmp_path / "libother.so", "int other(void) { return 0; }")
    other = ctypes.CDLL(str(file))
    assert _cuda_driver.cuda_version(other) is None
    with pytest.raises(CudaDriverError, match=r"^libcuda\.so\.1 has no cuInit$"):
        _cuda_driver.gpus(other)
