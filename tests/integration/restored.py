"""A small state directory, its manifest, and the directories that a test restores from and to."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.backup.manifest import Entry, Manifest
from swarm.backup.restore import Restored, Target, restore
from swarm.console import Screen, Talk
from swarm.inventory.backup import BackupSettings
from tests.sshd import USER

if TYPE_CHECKING:
    from swarm.ssh.guest import Guest

ODD = [
    b"agents/\xff\xfe",
    b"agents/new\nline",
    b"agents/\x1b[31mred",
    b"agents/-rf",
    b"agents/#a;'\"$(id) b",
    b"agents/" + b"n" * 255,
]


def make_state(folder: Path, word: str = "new", files: int = 3) -> Path:
    """Write a small state directory: secrets, a database in WAL mode, links, hard links, odd names, an empty folder."""
    for name in ("agents/main/agent", "credentials/telegram", "identity", "hooks", "workspace-two", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in (
        "openclaw.json",
        ".env",
        "credentials/telegram/token",
        "identity/key",
        "workspace-two/MEMORY.md",
    ):
        (folder / name).write_text(json.dumps({"word": word, "name": name}))
    for number in range(files):
        (folder / f"agents/main/session{number}.jsonl").write_text(f"{word} {number}\n" * 40)
    for odd in ODD:
        Path(os.fsdecode(bytes(folder) + b"/" + odd)).write_text(word)
    with contextlib.suppress(FileExistsError):
        (folder / "hooks/passwd").symlink_to("/etc/passwd")
        (folder / "hooks/self").symlink_to("../openclaw.json")
        os.link(folder / "agents/main/session0.jsonl", folder / "agents/main/twin.jsonl")
    with contextlib.closing(sqlite3.connect(folder / "state/openclaw.sqlite")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS said (word)")
        database.executemany("INSERT INTO said VALUES (?)", [(word,)] * 200)
        database.commit()
    return folder


def entries_of(folder: Path) -> list[Entry]:
    """List a tree as a manifest does."""
    found: list[Entry] = []
    names: dict[int, str] = {}
    for path in sorted(folder.rglob("*")):
        info, name = path.lstat(), str(path.relative_to(folder))
        owner, group = pwd.getpwuid(info.st_uid).pw_name, grp.getgrgid(info.st_gid).gr_name
        made = Entry(name, "directory", info.st_mode & 0o7777, info.st_mtime_ns, owner, group)
        if path.is_symlink():
            made = replace(made, kind="link", target=str(path.readlink()))
        elif path.is_file() and info.st_ino in names:
            made = replace(made, kind="hard", target=names[info.st_ino])
        elif path.is_file():
            names[info.st_ino] = name
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            made = replace(made, kind="file", size=info.st_size, sha256=digest)
        found.append(made)
    return found


def manifest_of(folder: Path, user: str = USER, exclude: tuple[str, ...] = ()) -> Manifest:
    """Return the manifest of a tree, whose databases are recognized by their name."""
    entries = entries_of(folder)
    databases = {each.path: {"said": 200} for each in entries if each.path.endswith(".sqlite")}
    return Manifest("zap", "2026-11-25T03:00:00Z", user, tuple(entries), databases, exclude)


def contents(folder: Path) -> dict[str, object]:
    """Return each path with its content, to compare two trees."""
    return {str(path.relative_to(folder)): _content(path) for path in folder.rglob("*")}


def _content(path: Path) -> object:
    if path.is_symlink():
        return str(path.readlink())
    return path.read_bytes() if path.is_file() else None


@dataclass
class Place:
    """A state directory in the guest, and a mirror to restore from."""

    guest: Guest
    home: Path
    mirror: Path
    talk: Talk = field(default_factory=lambda: Talk(Screen(), quiet=True))
    settings: BackupSettings = field(default_factory=BackupSettings)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.home / ".openclaw"

    @property
    def replaced(self) -> list[Path]:
        """The trees that were moved aside, the oldest first."""
        return sorted((self.home / ".openclaw-replaced").glob("*"))

    @property
    def target(self) -> Target:
        """The guest without a gateway."""
        return Target(self.guest, "zap", USER, str(self.state), 1, service=False)

    def restore(self, *, plan_only: bool = False) -> Restored:
        """Restore the mirror."""
        manifest = manifest_of(self.mirror)
        return restore(self.target, self.mirror, manifest, self.settings, self.talk, plan_only=plan_only)


def make_place(guest: Guest, folder: Path) -> Place:
    """Return a state directory with old content, and a mirror with new content."""
    made = Place(guest, folder / "the home", folder / "the mirror")
    make_state(made.mirror)
    make_state(made.state, "old", files=5)
    return made
