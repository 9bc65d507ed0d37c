from __future__ import annotations

from dataclasses import replace

from bench.builds import BASELINE, NATIVE, build_key


def test_key_is_the_same_for_the_same_build() -> None:
    first = build_key(NATIVE, commit="a", compiler="g++ 12", cpu="Zen")
    assert first == build_key(
        replace(NATIVE, title="another"), commit="a", compiler="g++ 12", cpu="Zen"
    )
    assert len(first) == 16


def test_key_changes_with_whatever_changes_the_build() -> None:
    keys = {
        build_key(NATIVE, commit="a", compiler="g++ 12", cpu="Zen"),
        build_key(NATIVE, commit="b", compiler="g++ 12", cpu="Zen"),
        build_key(NATIVE, commit="a", compiler="g++ 13", cpu="Zen"),
        build_key(NATIVE, commit="a", compiler="g++ 12", cpu="Core"),
        build_key(BASELINE, commit="a", compiler="g++ 12", cpu="Zen"),
    }
    assert len(keys) == 5


def test_portable_build_does_not_depend_on_the_cpu() -> None:
    assert build_key(BASELINE, commit="a", compiler="g++ 12", cpu="Zen") == build_key(
        BASELINE, commit="a", compiler="g++ 12", cpu="Core"
    )
