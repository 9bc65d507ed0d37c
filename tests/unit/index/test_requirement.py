from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from ci.errors import CatalogueError
from ci.table import load_table
from index.requirement import extras_of, may_hold, may_use, names_a_platform, parse, pins

PYTHONS = load_table().interpreters.all
NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("marker", "platform", "expected"),
    [
        ('sys_platform == "linux"', "manylinux_x86_64", True),
        ('sys_platform == "linux"', "musllinux_x86_64", True),
        ('sys_platform == "linux"', "win_amd64", False),
        ('platform_system == "Windows"', "win_amd64", True),
        ('os_name == "nt"', "macosx_arm64", False),
        ('platform_machine == "aarch64"', "manylinux_aarch64", True),
        ('platform_machine == "x86_64"', "manylinux_aarch64", False),
        ('platform_machine == "AMD64"', "win_amd64", True),
        ('platform_machine == "arm64"', "macosx_arm64", True),
        ('python_version < "3.9"', "manylinux_x86_64", False),
        ('python_version < "3.10"', "manylinux_x86_64", True),
        ('python_full_version >= "3.15.4"', "manylinux_x86_64", True),
        ('python_full_version == "3.11.4"', "manylinux_x86_64", True),
        ('python_version >= "4"', "manylinux_x86_64", False),
        ('platform_python_implementation == "PyPy"', "manylinux_x86_64", True),
        ('implementation_name == "graalpy"', "manylinux_x86_64", False),
        ('platform_release >= "5"', "manylinux_x86_64", True),
        ('extra == "gpu"', "manylinux_x86_64", False),
        ('sys_platform == "linux" and python_version < "3"', "manylinux_x86_64", False),
        ('sys_platform == "win32" or python_version >= "3.9"', "manylinux_x86_64", True),
    ],
)
def test_a_marker_holds_where_it_can_be_true(marker: str, platform: str, expected: bool) -> None:
    assert may_hold(marker, platform=platform, pythons=PYTHONS, extras=NONE) is expected


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ('sys_platform == "plan9" and platform_machine == "mips"', True),
        ('sys_platform != "linux"', True),
        ('sys_platform == "linux" and sys_platform == "win32"', False),
        ('sys_platform == "plan9" and python_version < "3"', False),
        ('extra == "gpu"', False),
    ],
)
def test_a_marker_holds_anywhere(marker: str, expected: bool) -> None:
    assert may_hold(marker, platform=None, pythons=PYTHONS, extras=NONE) is expected


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ('sys_platform == "linux"', True),
        ('python_version < "3.12" and platform_machine == "arm64"', True),
        ('platform_release > "5"', True),
        ('platform_python_implementation == "PyPy"', False),
        ('python_version < "3.12"', False),
    ],
)
def test_markers_that_ask_for_the_machine(marker: str, expected: bool) -> None:
    assert names_a_platform(marker) is expected


def test_an_extra_holds_for_who_may_ask_for_it() -> None:
    marker = 'extra == "GPU_tools" and sys_platform == "linux"'
    asked = frozenset({"gpu-tools"})

    assert may_hold(marker, platform="manylinux_x86_64", pythons=PYTHONS, extras=asked)
    assert not may_hold(marker, platform="win_amd64", pythons=PYTHONS, extras=asked)


def test_extras_of() -> None:
    requires = ["a", "b; extra == 'One'", "c; python_version > '3' and 'Two_2' == extra"]

    assert extras_of(requires) == {"one", "two-2"}


@pytest.mark.parametrize(
    ("file", "platform", "expected"),
    [
        ("a-1-py3-none-any.whl", "win_arm64", True),
        ("a-1-py2.py3-none-any.whl", "win_arm64", True),
        ("a-1-py2-none-any.whl", "win_arm64", False),
        ("a-1-cp39-abi3-manylinux_2_17_x86_64.whl", "manylinux_x86_64", True),
        ("a-1-cp313-cp313-manylinux_2_39_x86_64.whl", "manylinux_x86_64", True),
        ("a-1-cp313-cp313t-manylinux1_x86_64.whl", "manylinux_x86_64", True),
        ("a-1-cp312-cp312t-manylinux1_x86_64.whl", "manylinux_x86_64", False),
        ("a-1-cp38-cp38-manylinux2014_x86_64.whl", "manylinux_x86_64", False),
        ("a-1-py3-none-manylinux2014_x86_64.whl", "musllinux_x86_64", False),
        ("a-1-py3-none-manylinux2014_x86_64.whl", "manylinux_aarch64", False),
        ("a-1-py3-none-musllinux_1_2_x86_64.whl", "musllinux_x86_64", True),
        ("a-1-py3-none-win_amd64.whl", "win_amd64", True),
        ("a-1-py3-none-win32.whl", "win_amd64", False),
        ("a-1-py3-none-macosx_11_0_universal2.whl", "macosx_arm64", True),
        ("a-1-py3-none-macosx_11_0_universal2.whl", "macosx_x86_64", True),
        ("a-1-py3-none-macosx_10_9_intel.whl", "macosx_arm64", False),
        ("a-1.tar.gz", "win_amd64", True),
        ("a-1-py3-none-win32.whl", None, True),
        ("a-1-py2-none-win32.whl", None, False),
    ],
)
def test_files_that_some_machine_can_install(
    file: str, platform: str | None, expected: bool
) -> None:
    assert may_use(file, None, platform=platform, pythons=PYTHONS) is expected


@pytest.mark.parametrize(
    ("requires_python", "expected"),
    [
        (">=3.9", True),
        (">=3.15.4", True),
        ("<3.9", False),
        (">=3.20", False),
        ("==3.11.*", True),
        ("not a specifier", True),
    ],
)
def test_requires_python(requires_python: str, expected: bool) -> None:
    found = may_use("a-1-py3-none-any.whl", requires_python, platform="win_amd64", pythons=PYTHONS)

    assert found is expected


@pytest.mark.parametrize(
    ("specifiers", "expected"),
    [("==1.0", True), ("===1.0", True), ("==1.*", False), (">=1,<2", False), ("", False)],
)
def test_pins(specifiers: str, expected: bool) -> None:
    assert pins(SpecifierSet(specifiers)) is expected


def test_not_a_requirement() -> None:
    with pytest.raises(CatalogueError) as caught:
        parse("a b c")

    assert str(caught.value).startswith("Requires-Dist: 'a b c' is not a requirement (")
    assert caught.value.cure == "mend the metadata of that wheel"
