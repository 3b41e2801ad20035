"""Which entries of a backup the text of `--path` means."""

from __future__ import annotations

import pytest

from swarm.backup.pick import named, units
from swarm.errors import UsageError

STATE = "/home/openclaw/.openclaw"
KNOWN = {"a", "b", "a,b", "a/c", "one, two.md", " blank ", "line\n", "home", "x,y,z", "y"}


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a", ["a"]),
        ("b,a", ["b", "a"]),
        ("a,b", ["a,b"]),  # the longest text that is a path
        ("b, a,b ,y", ["b", "a,b", "y"]),
        ("one, two.md,a/c", ["one, two.md", "a/c"]),
        ("x,y,z,y", ["x,y,z", "y"]),
        (" blank ", [" blank "]),
        (" y ", ["y"]),
        ("line\n", ["line\n"]),
        (f"{STATE}/a/c", ["a/c"]),
        (f"{STATE}/a,{STATE}/b,{STATE}/a/", ["a", "b", "a"]),
        ("/a/c/", ["a/c"]),
        (",a,,", ["a"]),
    ],
)
def test_paths_are_found_in_a_text(text: str, paths: list[str]) -> None:
    """Commas and blanks belong to a name if the backup has it, and separate names otherwise."""
    assert named(text, STATE, KNOWN) == paths


@pytest.mark.parametrize(
    ("text", "words"),
    [("a, c,b", "^c is not in this backup"), (STATE, "is not in this backup"), (" , ", "names no file")],
)
def test_a_text_without_a_known_path_is_refused(text: str, words: str) -> None:
    """The error names the first path that the backup does not have."""
    with pytest.raises(UsageError, match=words):
        named(text, STATE, KNOWN)


def test_what_is_beneath_another_path_is_not_restored_twice() -> None:
    """A file beneath a directory that is restored anyway is left out."""
    assert units([f"{STATE}/a/c", "a", "b/"], STATE, KNOWN) == ("a", "b")
