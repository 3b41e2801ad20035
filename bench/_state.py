"""Make a state directory like that of an agent that has run for months: text, databases and pictures."""

from __future__ import annotations

import json
import random
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["change", "make"]

_WORDS = (
    "the agent reads a message and answers it with what it remembers of the user's plans for the week and the "
    "tools that it may call when something has to be looked up in a calendar or a mailbox or on the web"
).split()
_SESSIONS, _PICTURES = 18_800, 1_200
_PICTURE = 130_000  # bytes, which do not compress
_ROWS = 90_000


def make(root: Path) -> None:
    """Write about 600 MiB in 20,000 files to the directory `root`. The same bytes each time."""
    chance = random.Random(1)  # noqa: S311 - reproducible, not secret
    root.mkdir(parents=True, mode=0o700)
    (root / "openclaw.json").write_text(json.dumps({"gateway": {"port": 18789}}))
    (root / ".env").write_text("KEY=value\n")
    for name in ("credentials", "identity", "memory", "cron"):
        (root / name).mkdir()
        (root / name / "data.json").write_text("{}")
    for number in range(_SESSIONS):
        folder = root / "agents" / f"agent{number % 40}" / "sessions"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.jsonl").write_text(_lines(chance, 40 + number % 60))
    (root / "media").mkdir()
    for number in range(_PICTURES):
        (root / "media" / f"{number:04}.jpg").write_bytes(chance.randbytes(_PICTURE))
    (root / "state").mkdir()
    with sqlite3.connect(root / "state" / "openclaw.sqlite") as database:
        database.execute("CREATE TABLE transcript (id INTEGER PRIMARY KEY, body TEXT)")
        rows = ((_sentence(chance, 130),) for _ in range(_ROWS))
        database.executemany("INSERT INTO transcript (body) VALUES (?)", rows)
    database.close()


def change(root: Path, seed: int) -> None:
    """Append to one in a hundred of the sessions, as a day of work does."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for path in sorted((root / "agents").glob("*/sessions/*.jsonl"))[seed % 100 :: 100]:
        with path.open("a", encoding="ascii") as file:
            file.write(_lines(chance, 10))


def _lines(chance: random.Random, count: int) -> str:
    return "".join(
        json.dumps({"id": f"{chance.getrandbits(64):016x}", "role": "assistant", "text": _sentence(chance, 30)}) + "\n"
        for _ in range(count)
    )


def _sentence(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_WORDS, k=count))
