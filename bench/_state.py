"""Make a state directory like that of an agent that has run for months: text, databases and pictures."""

from __future__ import annotations

import json
import random
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["change", "make"]

_VOCABULARY = 20_000  # different words, as in months of conversations
_ZIPF = 1.1  # the exponent of how often a word occurs: few words make most of a text
_TOOLS = 3  # of the tool calls whose schema a session repeats
_SESSIONS, _PICTURES = 18_800, 1_200
_PICTURE = 150_000  # bytes, which do not compress
_ROWS = 100_000


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
        (folder / f"{number:05}.jsonl").write_text(_lines(chance, 28 + number % 40))
    (root / "media").mkdir()
    for number in range(_PICTURES):
        (root / "media" / f"{number:04}.jpg").write_bytes(chance.randbytes(_PICTURE))
    (root / "state").mkdir()
    with sqlite3.connect(root / "state" / "openclaw.sqlite") as database:
        database.execute("CREATE TABLE transcript (id INTEGER PRIMARY KEY, body TEXT)")
        rows = ((_TEXT.sentence(chance, 130),) for _ in range(_ROWS))
        database.executemany("INSERT INTO transcript (body) VALUES (?)", rows)
    database.close()


def change(root: Path, seed: int) -> None:
    """Append to one in a hundred of the sessions, as a day of work does."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for path in sorted((root / "agents").glob("*/sessions/*.jsonl"))[seed % 100 :: 100]:
        with path.open("a", encoding="ascii") as file:
            file.write(_lines(chance, 10))


def _lines(chance: random.Random, count: int) -> str:
    lines = []
    for number in range(count):
        text = _TEXT.sentence(chance, 30)
        line = {
            "id": f"{chance.getrandbits(64):016x}",
            "role": "assistant",
            "timestamp": 1790000000 + number,
            "text": text,
        }
        if number % _TOOLS == 0:
            line["tool"] = {
                "name": "calendar.search",
                "arguments": {"query": text[:40], "limit": 10},
                "schema": _SCHEMA,
            }
        lines.append(json.dumps(line) + "\n")
    return "".join(lines)


_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
}


class _Text:
    """Words of random letters, drawn with the frequencies of a natural language (Zipf's law)."""

    def __init__(self) -> None:
        chance = random.Random(0)  # noqa: S311 - reproducible, not secret
        letters = "etaoinshrdlucmfwypvbgk"
        self._words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(_VOCABULARY)]
        total, self._weights = 0.0, []
        for rank in range(1, _VOCABULARY + 1):
            total += rank**-_ZIPF
            self._weights.append(total)

    def sentence(self, chance: random.Random, count: int) -> str:
        """Return `count` words."""
        return " ".join(chance.choices(self._words, cum_weights=self._weights, k=count))


_TEXT = _Text()
