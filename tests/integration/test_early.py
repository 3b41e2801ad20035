"""Which commands begin to connect before they load anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.paths import ROOT

if TYPE_CHECKING:
    from tests.conftest import Dirs

# Prints what the command does first: start ssh, or load its command line.
_PROGRAM = """import atexit, runpy, sys
events = []
def note(event, arguments):
    if event == "subprocess.Popen" and arguments[1][0] == "ssh":
        events.append("ssh")
    elif event == "import" and arguments[0] == "invoke.program":
        events.append("invoke")
sys.addaudithook(note)
atexit.register(lambda: print("events:", *events[:1]))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("install", "ssh"),
        ("customize", "ssh"),
        ("backup", "ssh"),
        ("backup.list", "invoke"),
        ("provision", "invoke"),
    ],
)
def test_commands_that_always_connect_begin_with_it(dirs: Dirs, command: str, first: str) -> None:
    """A command that needs the guest in any case connects while it loads; one that may not need it does not."""
    part = ssh.part_path("zap")
    part.parent.mkdir(parents=True)
    part.write_text("Host zap\n    HostName 127.0.0.1\n    Port 1\n", encoding="utf-8")
    words = [
        sys.executable,
        "-P",
        "-c",
        _PROGRAM,
        str(ROOT / "swarm" / "__main__.py"),
        command,
        "--host",
        "zap",
    ]
    environment = {**os.environ, "SWARM_STATE": str(dirs.state), "SWARM_HOSTS": str(dirs.hosts)}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == f"events: {first}", done.stderr
