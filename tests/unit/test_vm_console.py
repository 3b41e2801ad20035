"""The serial console's text is shown without what a terminal would obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.vm.serial import clean


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"plain\n", ["plain"]),
        (b"one\r\ntwo\r\n\r\n  three  \n", ["one", "two", "three"]),
        (b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\x1b[0m", ["BdsDxe: loading"]),
        (b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mcron\x1b[0m.\n", ["[  OK  ] Started cron."]),
        (b"\x1b(B\x1b7\x1b8\x1bcreset\x1bM\n", ["reset"]),
        (b"10%\r20%\r30%\n", ["10%", "20%", "30%"]),
        (b"tab\there\x00\x07\n", ["tabhere"]),
        ("zäp → 🦞\n".encode(), ["zäp → 🦞"]),
        (b"\xffbroken\xc3", ["\ufffdbroken\ufffd"]),
        (b"\x1b]0;title\x07prompt\n", ["]0;titleprompt"]),
    ],
)
def test_a_consoles_text_without_its_terminal(raw: bytes, lines: list[str]) -> None:
    """Colours and cursor movements are left out, lines and letters stay."""
    assert clean(raw) == lines


@given(st.binary(max_size=300))
def test_nothing_that_a_terminal_would_obey_gets_through(raw: bytes) -> None:
    """Whatever a guest writes to its console, what is shown of it are printable lines."""
    assert all(line and line.isprintable() for line in clean(raw))


@given(st.lists(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20), max_size=5))
def test_plain_lines_stay_as_they_are(lines: list[str]) -> None:
    """What is plain text already is not touched."""
    assert clean("\r\n".join(lines).encode()) == lines
