"""State directories as OpenClaw writes them, for tests of backup and restore."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DATABASE", "ODD_NAMES", "add_rows", "database", "make_state", "snapshot_of", "writing"]

DATABASE = "agents/main/agent/openclaw-agent.sqlite"
# Not UTF-8, a newline, an escape character, an option, brackets, a backslash, spaces, and 255 bytes.
ODD_NAMES = (
    os.fsdecode(b"bad-\xff\xfe"),
    "new\nline",
    "esc\x1b[31m",
    "-rf",
    "[a]*?",
    "back\\slash",
    " spaces ",
    "n" * 255,
)

_FILES = {
    ".env": "OPENAI_API_KEY=made-up\n",
    "config-journal-fingerprint.key": "key\n",
    "credentials/telegram.json": '{"token": "made-up"}\n',
    "identity/device.json": '{"id": 1}\n',
    "hooks/greet/handler.js": "export default 1\n",
    "cron/jobs.json": "[]\n",
    "workspace/notes.md": "excluded\n",
    "logs/gateway.log": "excluded\n",
    "cache/blob": "excluded\n",
    "openclaw.json.bak": "{}\n",
    "openclaw.json.bak.1": "{}\n",
}
_SECRET = ("openclaw.json", ".env", "credentials", "identity")


def make_state(path: Path, *, sessions: int = 20, rows: int = 50, sparse: int = 0, odd: bool = False) -> Path:
    """Write a state directory to `path`, and return `path`.

    It has `sessions` files of sessions, `rows` rows in the agent's database, a `sparse` file of so many bytes (0:
    none), and with `odd` the names that break careless programs.
    """
    path.mkdir(mode=0o700, parents=True)
    config = {"gateway": {"mode": "local", "port": 18789}, "meta": {"lastTouchedVersion": "2026.11.1"}}
    _write(path / "openclaw.json", json.dumps(config, indent=2))
    for name, text in _FILES.items():
        _write(path / name, text)
    for number in range(sessions):
        _write(path / f"agents/main/sessions/{number:04d}.jsonl", json.dumps({"number": number}) + "\n")
    database(path / DATABASE, rows)
    database(path / "state/openclaw.sqlite", 3)
    if sparse:
        with (path / "memory.bin").open("wb") as file:
            file.write(b"start")
            file.truncate(sparse)
    if odd:
        for name in ODD_NAMES:
            _write(path / "odd" / name, repr(name))
    return path


def database(path: Path, rows: int) -> None:
    """Create a database in WAL mode with `rows` rows in the table `transcript`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS transcript (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY)")
        add_rows(connection, rows)


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep a database open, as a running gateway does: what is committed stays in its -wal file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection
    finally:
        connection.close()


def add_rows(connection: sqlite3.Connection, rows: int) -> None:
    """Commit `rows` more rows."""
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO transcript (text) VALUES (?)", ((f"row {n}" * 20,) for n in range(rows))
    )
    connection.execute("COMMIT")


def snapshot_of(path: Path) -> dict[str, object]:
    """Return every path below `path` with its kind and its content, to compare two trees."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            full = Path(folder) / name
            relative = str(full.relative_to(path))
            if full.is_symlink():
                found[relative] = ("link", str(full.readlink()))
            elif full.is_file():
                found[relative] = full.read_bytes()
            else:
                found[relative] = "directory" if full.is_dir() else "special"
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(0o600 if path.name in _SECRET or path.parent.name in _SECRET else 0o644)
    path.parent.chmod(0o700)
