"""What rsync reports, and what its exit codes mean."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.backup.rsync import Outcome, exact, explain
from swarm.errors import CommandFailed, Refused, SwarmError, Unfit, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

MIRROR = Path("/srv/openclaw/zap")


def outcome(lines: Sequence[bytes]) -> Outcome:
    """Return what rsync's output means."""
    made = Outcome()
    for line in lines:
        made.take(line)
    return made


def test_changes_are_counted_and_shown() -> None:
    """Each reported change counts. Those of the mirror's own mode do not, and what is no report does not."""
    found = outcome(
        [
            b"@>f+++++++++ 12 a",
            b"@>f.st...... 13 b\x1b",
            b"@*deleting   0 c",
            b"@.d...p..... 4096 ./",
            b"skipping something",
            b"@>fshort 1 x",
        ]
    )
    assert found.items == 3
    assert found.shown == ["add a", "update b\\x1b", "delete c"]


def test_the_statistics_are_read() -> None:
    """Deleted directories do not count as files, and sizes are exact."""
    found = outcome(
        [
            b"Number of files: 900 (reg: 800, dir: 100)",
            b"Number of deleted files: 12 (reg: 7, dir: 3, link: 2)",
            b"Number of regular files transferred: 5",
            b"Total transferred file size: 123456789 bytes",
        ]
    )
    assert (found.deleted, found.removed, found.transferred, found.size) == (9, 12, 5, 123456789)


@given(st.binary(max_size=60))
def test_any_line_is_read(line: bytes) -> None:
    """No line of output makes reading fail."""
    assert outcome([line]).items <= 1


@pytest.mark.parametrize(
    ("code", "messages", "kind", "expected"),
    [
        (
            23,
            'rsync: [sender] failed to open "/s/a\x1b": Permission denied (13)\nrsync error: some (code 23)',
            CommandFailed,
            'zap: not every file could be copied: [sender] failed to open "/s/a\\x1b": Permission denied (13)',
        ),
        (
            25,
            "Deletions stopped due to --max-delete limit",
            Refused,
            "zap: more files would be deleted from the mirror than the dry run has shown",
        ),
        (
            11,
            'rsync: [receiver] write failed on "/x": No space left on device (28)',
            Unfit,
            f"{MIRROR}: the disk is full",
        ),
        (
            11,
            'rsync: [receiver] close failed on "/x": Input/output error (5)',
            CommandFailed,
            'zap: rsync could not read or write a file: [receiver] close failed on "/x": Input/output error (5)',
        ),
        (20, "", CommandFailed, "zap: rsync was interrupted"),
        (-15, "", CommandFailed, "zap: rsync was killed"),
        (127, "sh: 1: exec: rsync: not found", CommandFailed, "zap: rsync is missing in the guest"),
        (3, "rsync: odd", CommandFailed, "zap: rsync failed with exit code 3: odd"),
        *(
            (
                code,
                "Connection closed",
                Unreachable,
                "zap: the connection broke while files were copied: Connection closed",
            )
            for code in (10, 12, 30, 35, 255)
        ),
    ],
)
def test_each_exit_code_has_its_sentence(
    code: int, messages: str, kind: type[SwarmError], expected: str
) -> None:
    """An exit code becomes one sentence with the host, or the disk, and the first reason that rsync gives."""
    error = explain("zap", Outcome(code=code, messages=messages), MIRROR)
    assert (type(error), error.message) == (kind, expected)


@pytest.mark.parametrize(
    "name", ["plain", "a*b", "[x]", "back\\slash", "b\\*", "q?", "-rf", " s ", "new\nline", "#c"]
)
def test_an_exact_pattern_matches_only_its_path(name: str, tmp_path: Path) -> None:
    """Rsync leaves out the file itself, and neither its neighbors nor one of the same name elsewhere."""
    source, target = tmp_path / "source", tmp_path / "target"
    for path in (name, f"sub/{name}", "aXb", "x", "b\\", "qq", "c"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text("x", encoding="utf-8")
    rules = tmp_path / "rules"
    rules.write_bytes(f"- {exact(name)}\0".encode())
    command = ["rsync", "-r", "--from0", f"--filter=merge {rules}", f"{source}/", str(target)]
    subprocess.run(command, check=True)
    left = {str(path.relative_to(source)) for path in source.rglob("*")}
    arrived = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert left - arrived == {name}
