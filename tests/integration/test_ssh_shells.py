"""Guests whose login shell prints, or is no POSIX shell: every answer is cut out of what it prints."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup.swap import send
from swarm.ssh.guest import Guest
from tests.sshd import Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an account of its own needs root")

# What the account's shell is. Each prints without a newline, on both streams, before it runs the command.
_GREET = "printf 'Welcome\\nbien'; printf 'venue\\nnews' >&2"
SHELLS = {
    "sh": f'#!/bin/sh\n{_GREET}\n/bin/sh "$@"\ncode=$?\necho Bye; echo bye >&2\nexit $code\n',
    "tcsh": f'#!/bin/sh\n{_GREET}\nexec tcsh "$@"\n',
    "fish": f'#!/bin/sh\n{_GREET}\nexec fish "$@"\n',
    "bash": f'#!/bin/sh\n{_GREET}\nexec bash "$@"\n',
}


@pytest.fixture(params=SHELLS)
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    """A guest whose root has such a shell."""
    name = request.param
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    shell = tmp_path / "shell"
    shell.write_text(SHELLS[name], encoding="utf-8")
    shell.chmod(0o755)
    identity = tmp_path / "id"
    with Sshd(tmp_path / "sshd", [login_key(identity)]) as server:
        accounts = tmp_path / "sshd" / "passwd"
        lines = [
            f"root:x:0:0:root:{tmp_path}:{shell}" if line.startswith("root:") else line
            for line in accounts.read_text(encoding="utf-8").splitlines()
        ]
        accounts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        ssh.write_config(server.target(tmp_path / "pins", identity, name="chatty"))
        made = Guest(ssh.part_path("chatty"), "chatty")
        yield made
        made.close()


def test_answers_are_cut_out(guest: Guest) -> None:
    """Output, error output, and exit code of a command are its own."""
    done = guest.run("printf one; echo two >&2; exit 3", warn=True)
    assert (done.stdout, done.stderr, done.exited) == ("one", "two\n", 3)
    lines: list[bytes] = []
    guest.script("echo one; echo two >&2", lines.append).join()
    assert sorted(lines) == [b"one", b"two"]


def test_files_arrive_as_they_are(guest: Guest, tmp_path: Path) -> None:
    """A file is copied both ways, byte by byte."""
    data = b"\n\n#!one\r\n" + bytes(range(256)) * 300
    source, there, back = tmp_path / "source", tmp_path / "there it's !1", tmp_path / "back"
    source.write_bytes(data)
    guest.put(source, str(there))
    guest.get(str(there), back)
    assert (there.read_bytes(), back.read_bytes()) == (data, data)


def test_a_tree_arrives_as_it_is(guest: Guest, tmp_path: Path) -> None:
    """Rsync, whose protocol begins with the first byte, copies a tree."""
    source, there = tmp_path / "source", tmp_path / "there it's !1"
    source.mkdir()
    (source / "it's !1").write_bytes(bytes(range(256)) * 300)
    assert send(guest, "chatty", source, str(there)) == ""
    assert (there / "it's !1").read_bytes() == (source / "it's !1").read_bytes()
