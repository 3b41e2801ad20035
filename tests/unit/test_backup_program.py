"""The program that a backup runs in its guest, run here with an account and a state directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from swarm.paths import ROOT
from tests.state import DATABASE, database, make_state

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "\n".join(
    (ROOT / "templates/guest" / name).read_text(encoding="utf-8")
    for name in ("patterns.py", "backup_tree.py", "backup.py")
)
# The account is the one that runs the tests. `meanwhile` is run between the survey and the first snapshot.
SURROUNDINGS = """
import os, pwd, shutil, sqlite3
account = pwd.struct_passwd(("claw", "x", os.getuid(), os.getgid(), "", {home!r}, "/bin/sh"))
pwd.getpwnam, shutil.which, free = lambda _: account, lambda _: "/usr/bin/rsync", os.statvfs
os.statvfs = lambda path: (exec({meanwhile!r}), free(path))[1]
"""


def answers(home: Path, meanwhile: str = "") -> list[dict[str, Any]]:
    """Return what the program answers if the Python code `meanwhile` is run between survey and snapshots."""
    request: dict[str, object] = {
        "hostname": None,
        "user": "claw",
        "state_dir": str(home / ".openclaw"),
        "exclude": [],
        "known": {},
        "snapshot": True,
    }
    surroundings = SURROUNDINGS.format(home=str(home), meanwhile=meanwhile)
    text = f"{surroundings}\nREQUEST = {json.dumps(request)!r}\n{PROGRAM}"
    argv = [sys.executable, "-I", "-S", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=20)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_directory_with_a_database_may_vanish_meanwhile(tmp_path: Path) -> None:
    """If a directory with a database vanishes after the survey, all other databases are copied, and nothing fails."""
    state = make_state(tmp_path / ".openclaw")
    database(state / "agents/second/agent/openclaw-agent.sqlite", 1)
    found = answers(tmp_path, f"shutil.rmtree({str(state / 'agents/second')!r})")
    assert [each for each in found if "error" in each] == []
    assert [each["database"] for each in found if each.get("copied")] == [DATABASE, "state/openclaw.sqlite"]
    assert "versions" in found[-1]
    staging = tmp_path / ".swarm-backup/snapshots/agents"
    assert [each.name for each in staging.iterdir()] == ["main"], "the mirror would get an empty directory"


BECOMES_A_FILE = """
shutil.rmtree({folder!r})
open({folder!r}, "w").close()
"""
VANISHES_LATE = """
def late(*args, connect=sqlite3.connect, **options):
    shutil.rmtree({folder!r}, ignore_errors=True)
    return connect(*args, **options)
sqlite3.connect = late
"""


@pytest.mark.parametrize("meanwhile", [BECOMES_A_FILE, VANISHES_LATE])
def test_a_database_may_vanish_at_any_moment(tmp_path: Path, meanwhile: str) -> None:
    """A database that vanishes before it is opened, or whose directory becomes a file, is not a damaged one."""
    state = make_state(tmp_path / ".openclaw")
    database(state / "agents/a/b/c.sqlite", 1)
    found = answers(tmp_path, meanwhile.format(folder=str(state / "agents/a")))
    assert [each for each in found if "error" in each or each.get("problem")] == []
    assert [each["database"] for each in found if each.get("copied")] == [DATABASE, "state/openclaw.sqlite"]
    assert "versions" in found[-1]


@pytest.mark.parametrize(
    ("pipe", "said"),
    [
        (".openclaw/openclaw.json", {"error": "config", "value": "it is not a regular file"}),
        (".swarm-backup/lock", {"error": "system"}),
        (f".openclaw/{DATABASE}-journal", {"problem": "its -journal is not a regular file"}),
    ],
)
def test_no_pipe_is_waited_for(tmp_path: Path, pipe: str, said: dict[str, str]) -> None:
    """A pipe of the account's, in the place of a file that the program opens, is an error and never waited for."""
    make_state(tmp_path / ".openclaw")
    (tmp_path / ".swarm-backup").mkdir()
    (tmp_path / pipe).unlink(missing_ok=True)
    os.mkfifo(tmp_path / pipe)
    assert [each for each in answers(tmp_path) if said.items() <= each.items()]
