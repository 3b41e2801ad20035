"""Files that are written completely or not at all, and private folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.files import private_dir, write_atomically, write_new

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_text_and_exactly_its_mode(tmp_path: Path, mode: int, umask: int) -> None:
    """The mode is the one requested, whatever the umask, also for a file that replaces another."""
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        for text in ("first", "zwö\n"):
            write_atomically(path, text, mode)
            assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == (text, mode)
    finally:
        os.umask(before)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Text that can't be encoded raises, the old content stays, and no scratch file remains."""
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udc80")
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_right_after_the_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that arrives when the file is replaced already is still reported as Ctrl-C."""
    replace = Path.replace

    def interrupted(scratch: Path, target: Path) -> None:
        replace(scratch, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("write", [write_atomically, write_new])
def test_a_full_disk_is_reported_with_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    """The system's error for a write names no file, so the file is added; what was written of it is removed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "file"
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, "text")
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    """A file that is there is kept, and the new one is for its owner alone."""
    path = tmp_path / "file"
    write_new(path, "old")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new(path, "new")
    assert path.read_text(encoding="utf-8") == "old"


def test_a_reader_keeps_the_old_file(tmp_path: Path) -> None:
    """A program that has the file open reads the old text to its end: the file is replaced, not changed."""
    path = tmp_path / "file"
    write_atomically(path, "old")
    with path.open(encoding="utf-8") as file:
        write_atomically(path, "a new text")
        assert file.read() == "old"


def test_a_private_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The folder is created with its parents, and only its owner can enter it."""
    path = private_dir(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """A new private folder is for its owner alone; one that was there, such as /tmp, keeps its mode."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert private_dir(shared).stat().st_mode & 0o7777 == 0o1777
    made = private_dir(tmp_path / "a" / "b" / "c")
    assert [path.stat().st_mode & 0o7777 for path in (made, made.parent, made.parent.parent)] == [0o700] * 3
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        private_dir(tmp_path / "file")
