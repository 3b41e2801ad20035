"""Guests whose ~/.bashrc prints where no terminal is: rsync finds its protocol behind that."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from swarm.backup import swap
from swarm.errors import CommandFailed, Unfit, Unreachable
from swarm.paths import ROOT
from tests.integration.guest_state import make_place, own_server
from tests.state import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd

DENOISE = ROOT / "swarm" / "ssh" / "denoise.py"
CHILD = """
import sys
from tests.integration.guest_state import Place
Place.load(sys.argv[1]).backup()
"""
LIMIT = 1 << 16  # bytes that a login may print
NOISE = {
    "half a line": b"Welcome",
    "one byte": b"x",
    "many lines": b"Welcome to this guest!\n" * 2000,
    "binary": bytes(range(256)) * 100,
    "the most": b"x" * LIMIT,
}


@pytest.fixture
def server(keys: Path, dirs: Dirs) -> Iterator[Sshd]:
    """A server at which any account can log in."""
    with own_server(dirs.hosts.parent / "sshd", keys) as made:
        yield made


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest in which root's and the account's shell is bash, with a home directory of its own for root."""
    base = dirs.hosts.parent
    with make_place(server, keys, base) as made:
        accounts, home = server.folder / "passwd", base / "root"
        home.mkdir()
        lines = [
            f"root:x:0:0:root:{home}:/bin/bash" if line.startswith("root:") else line
            for line in accounts.read_text(encoding="utf-8")
            .replace(":/bin/sh\n", ":/bin/bash\n")
            .splitlines()
        ]
        accounts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield made


def bashrc(place: Place) -> Path:
    """Return root's ~/.bashrc."""
    return place.mirror.parents[1] / "root" / ".bashrc"


def print_at_login(place: Place, text: bytes) -> None:
    """Let root's ~/.bashrc print `text`."""
    bashrc(place).write_text(printing(text), encoding="ascii")


def printing(text: bytes) -> str:
    """Return shell that prints `text`."""
    return f"base64 -d <<'END'\n{base64.encodebytes(text).decode('ascii')}END\n"


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def copying(place: Place) -> Callable[[], bool]:
    """Return the question whether the large file is being copied."""
    return lambda: any(place.mirror.glob("**/.large.*"))


@contextmanager
def slowly(place: Place) -> Iterator[None]:
    """Back the guest up, then give it a large file. During the block it is copied slowly."""
    place.backup()
    (place.state / "large").write_bytes(os.urandom(8 << 20))
    place.own()
    place.settings = place.settings.model_copy(update={"bwlimit": 512})
    yield
    place.settings = place.settings.model_copy(update={"bwlimit": None})


@pytest.mark.parametrize("noise", NOISE)
def test_a_backup_survives_what_a_login_prints(place: Place, noise: str) -> None:
    """The first backup copies everything, and the second finds nothing to do, whatever the login prints."""
    place.backup()
    expected = snapshot_of(place.mirror)
    place.mirror.rename(place.mirror.with_name("quiet"))
    place.known = type(place.known)()
    print_at_login(place, NOISE[noise])
    assert place.backup().changed
    assert snapshot_of(place.mirror) == expected
    assert not place.backup().changed


@pytest.mark.parametrize("noise", NOISE)
def test_a_restore_survives_what_a_login_prints(place: Place, tmp_path: Path, noise: str) -> None:
    """A tree, or a part of it, arrives in the guest whatever the login prints."""
    print_at_login(place, NOISE[noise])
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert swap.send(place.guest(), "zap", place.state, str(whole)) == ""
    assert snapshot_of(whole) == snapshot_of(place.state)
    assert swap.send(place.guest(), "zap", place.state, str(part), ["openclaw.json"]) == ""
    assert [path.name for path in part.iterdir()] == ["openclaw.json"]


def test_an_account_without_roots_rights_may_print(place: Place, server: Sshd, keys: Path) -> None:
    """A backup as the account itself survives what that account's login prints."""
    (place.home / ".bashrc").write_text(printing(NOISE["binary"]), encoding="ascii")
    place.log_in_as_account(server, keys)
    assert place.backup().changed
    assert "openclaw.json" in snapshot_of(place.mirror)


def test_more_than_the_limit_is_an_error(place: Place, tmp_path: Path) -> None:
    """If a login prints more than 64 KiB, backup and restore end with an error that names the cause."""
    print_at_login(place, b"x" * (LIMIT + 1))
    with pytest.raises(CommandFailed, match=r"zap: rsync does not understand the guest: .*") as failed:
        place.backup()
    assert "~/.bashrc" in str(failed.value.hint)
    with pytest.raises(CommandFailed, match="zap: rsync does not understand the guest") as failed:
        swap.send(place.guest(), "zap", place.state, str(tmp_path / "there"))
    assert "~/.bashrc" in str(failed.value.hint)


def test_a_login_that_prints_for_ever_is_an_error(place: Place, tmp_path: Path) -> None:
    """A login that never stops printing does not hang a restore: the error names the cause."""
    bashrc(place).write_text("exec yes\n", encoding="ascii")
    with pytest.raises(CommandFailed, match="zap: rsync does not understand the guest") as failed:
        swap.send(place.guest(), "zap", place.state, str(tmp_path / "there"))
    assert "~/.bashrc" in str(failed.value.hint)


def test_a_missing_rsync_is_named(place: Place, tmp_path: Path) -> None:
    """If rsync is missing in a guest whose login prints, the error says that."""
    bashrc(place).write_text(f"{printing(b'Welcome')}PATH={tmp_path}\n", "ascii")
    (tmp_path / "sh").symlink_to("/bin/sh")
    with pytest.raises(Unfit, match="zap: rsync is missing in the guest"):
        swap.send(place.guest(), "zap", place.state, str(tmp_path / "there"))


def test_a_broken_connection_is_named(place: Place) -> None:
    """If the connection to a guest whose login prints breaks, the error says that, and the next backup completes."""
    print_at_login(place, NOISE["binary"])

    def cut() -> None:
        wait_until(copying(place))
        place.guest().close()

    with slowly(place):
        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(Unreachable, match="the connection broke while files were copied"):
            place.backup()
        thread.join()
    assert place.backup().changed
    assert (place.mirror / "large").read_bytes() == (place.state / "large").read_bytes()


def test_ctrl_c_ends_the_filter_too(place: Place) -> None:
    """After Ctrl-C nothing of the backup of a guest whose login prints is left, and the lock is free."""
    print_at_login(place, NOISE["binary"])
    with slowly(place):
        command = [sys.executable, "-P", "-c", CHILD, str(place.save())]
        with subprocess.Popen(command, cwd=ROOT, env=place.env(), stderr=subprocess.PIPE) as child:
            wait_until(copying(place))
            child.send_signal(signal.SIGINT)
            # The end of this stream is the end of all processes that inherited it.
            assert b"KeyboardInterrupt" in child.communicate()[1]
    assert place.backup().changed
    assert (place.mirror / "large").read_bytes() == (place.state / "large").read_bytes()


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill $$", -signal.SIGTERM)])
def test_the_filter_has_the_commands_exit_code(command: str, code: int) -> None:
    """Input reaches the command, output from after the mark arrives, and the end is the command's own."""
    script = f"printf 'Welcome\nmark\n'; cat; {command}"
    words = [sys.executable, "-I", "-S", str(DENOISE), "mark", "sh", "-c", script]
    data = bytes(range(256)) * 4000
    done = subprocess.run(words, input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, data, b"")


def test_without_a_mark_nothing_passes() -> None:
    """If the command ends before the mark, its output is noise."""
    words = [sys.executable, "-I", "-S", str(DENOISE), "mark", "sh", "-c", "echo no mark"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b""


def test_without_a_reader_the_filter_is_silent() -> None:
    """If the reader is gone, before the mark or after it, the filter ends and prints no error."""
    for begin in ("echo mark", ":"):
        script = f"exec 2>/dev/null; echo Welcome; {begin}; yes"
        words = [sys.executable, "-I", "-S", str(DENOISE), "mark", "sh", "-c", script]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
