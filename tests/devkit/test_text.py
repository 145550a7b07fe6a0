"""Figures and names as people read them."""

from __future__ import annotations

import pytest

from devkit.text import counted, duration, printable, significant, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5140.4, "5140"),
        (52.14, "52.1"),
        (0.012345, "0.0123"),
        (-1.005, "-1.00"),
        (999.9, "1000"),
        (9.999, "10.0"),
        (1e-7, "0.000000100"),
        (123456, "123000"),
    ],
)
def test_three_significant_digits_without_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.052, "52.0 ms"),
        (1.36, "1.36 s"),
        (59.99, "60.0 s"),
        (192, "3 min 12 s"),
        (3599.9, "1 h 0 min"),
        (3600, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (512, "512 B"), (1024, "1.00 KiB"), (6.1 * 2**20, "6.10 MiB"), (2000 * 2**30, "2000 GiB")],
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


def test_counted_nouns() -> None:
    assert [counted(1, "file"), counted(3, "file"), counted(2, "entry", "entries")] == [
        "1 file",
        "3 files",
        "2 entries",
    ]


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\udce9", "\x7f"])
def test_control_characters_are_written_out(letter: str) -> None:
    shown = printable(f"a{letter}b")
    assert letter not in shown
    assert shown.startswith("a\\")
    assert shown.isascii()


def test_ordinary_letters_of_any_script_stay() -> None:
    assert printable("naïve 中文 ✓ – tab\tline\n") == "naïve 中文 ✓ – tab\tline\n"
