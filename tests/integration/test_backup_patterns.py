"""What the guest's programs leave out is what rsync leaves out, whatever the pattern."""

from __future__ import annotations

import os
import runpy
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "a", "b", "ab", "abc", "aab", "a b", "aé", "é", "日", "1", "-", "a-", "^", "!", "*", "?", "a*", ":", "[", "]", "[a",
    "a]", "a[b", "[ab]", "[!a]", "\\", "a\\", "a\\b", "x.log", os.fsdecode(b"\xff"),
]  # fmt: skip
PATTERNS = [
    "?", "??", "a?", "?.d/", "/?.d/a", "[é]", "[a-é]", "[^a]", "[!a]", "*.d[^q]a", "*a", "*/", "*/a", "/", "//a", "a//",
    "**", "**a", "a**", "**/a", "**/a/", "***/a", "a/**", "/**/a", "**/é/**", "***", "a***", "/***", "d.d/***",
    "a/***/", "[[:alpha:]]", "[a[:digit:]]", "[^[:alpha:]]", "[[:alpha:]-]*", "[[:foo:]]", "[[:alpha:]", "[[:]",
    "[[::]]", "[:a]", "[", "[a", "a[b", "*[", "[]", "[!", "[]a]", "[!]a]", "[]-a]", "[a-c]", "[c-a]", "[a-]", "[-a]",
    "[a--b]", "[&&a]", "[\\]]", "[\\]a]", "[a\\-c]", "[\\a]", "[a-\\]]", "[\\[-\\]]", "[*]", "d.d[/]a",
    "\\", "a\\", "a\\b", "\\a", "*\\", "a\\*", "\\[a", "a\\[b", "[[]", "a\\\\b", "?\\b",
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with odd names at its top, in directories and in a directory within one."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("", "d.d/", "é.d/", "a.d/é/", "a.d/a/"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if not (root / folder / name).is_dir():
                (root / folder / name).touch()
    return root


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_to_rsync(tree: Path, tmp_path: Path, pattern: str) -> None:
    """The guest's programs and rsync leave the same files and directories out."""
    copy = ["rsync", "-r", f"--filter=H {pattern}", f"{tree}/", f"{tmp_path}/"]
    subprocess.run(copy, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    excluded = runpy.run_path(str(ROOT / "templates/guest/patterns.py"))["Excluded"]([pattern])

    def left(folder: str) -> set[str]:
        found: set[str] = set()
        for each in (tree / folder).iterdir():
            path = f"{folder}{each.name}"
            if not excluded.matches(path, each.is_dir()):
                found |= {path} | (left(f"{path}/") if each.is_dir() else set())
        return found

    assert left("") == {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")}
