"""The limits on a guest's output, and on the files that a kept connection holds open."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.errors import CommandFailed
from swarm.ssh.guest import Guest
from swarm.ssh.session import Limits, Session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sshd import Sshd


SLACK = 20.0  # seconds that a loaded machine may add to a limit


FLOODS = {
    "lines": ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "the guest sent more than 1 MiB"),
    "errors": (
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; done",
        "the guest sent more than 1 MiB",
    ),
    "one line": ("cat /dev/zero", "the guest sent a line of more than 64 KiB"),
}


@pytest.mark.parametrize("command", ["echo $long >&2; exit 1", "echo $long; exit 1"])
def test_an_error_quotes_only_the_beginning_of_a_long_line(guest: Guest, command: str) -> None:
    """An error shows no more than 300 characters of a line that a guest has printed."""
    with pytest.raises(CommandFailed) as caught:
        guest.check(f"long=$(head -c 900000 /dev/zero | tr '\\0' x); {command}", "reading")
    assert (caught.value.message, caught.value.hint) == (
        "guest: reading failed with exit code 1",
        f"{'x' * 300}…",
    )


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_conversation(guest: Guest, name: str) -> None:
    """Output beyond the limits ends the conversation and the kept connection, with little memory used."""
    script, message = FLOODS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CommandFailed, match=f"^guest: {message}"):
        guest.script(script, lambda _: None, Limits(output=1 << 20, line=1 << 16, total=60)).join()
    assert not guest.is_connected
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.parametrize(
    ("script", "limits", "message"),
    [
        ("sleep 600", Limits(silence=1), "no answer for 1 s"),
        ("while sleep 0.1; do printf x; done", Limits(total=2), "timed out after 2 s"),
        ("while sleep 0.1; do echo x >&2; done", Limits(total=2), "timed out after 2 s"),
    ],
)
def test_a_guest_that_never_ends_is_left(guest: Guest, script: str, limits: Limits, message: str) -> None:
    """Silence and endless output exceed their limits."""
    start = time.monotonic()
    with pytest.raises(CommandFailed, match=f"^guest: {message}"):
        guest.script(script, lambda _: None, limits).join()
    assert time.monotonic() - start < SLACK


def test_a_command_has_a_timeout(guest: Guest) -> None:
    """`timeout` limits a command as in Invoke, and the error states the limit."""
    start = time.monotonic()
    with pytest.raises(CommandFailed, match="guest: timed out after 1 s"):
        guest.run("sleep 600", timeout=1)
    assert time.monotonic() - start < SLACK


def test_a_kept_connection_holds_nothing_that_grows(guest: Guest) -> None:
    """The control master inherits no open file or pipe from swarm."""
    guest.run("echo out; echo err >&2")
    master = subprocess.run(
        [*guest.link.command(), "-O", "check", "guest"], capture_output=True, text=True, check=True
    )
    pid = int(master.stderr.split("pid=")[1].split(")")[0])
    opened = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH115, PTH208
    assert [name for name in opened if not name.startswith(("/dev/null", "socket:", "anon_inode:"))] == []


def test_a_shell_that_greets_changes_nothing(server: Sshd, keys: Path, tmp_path: Path) -> None:
    """Output of the login shell before the script is not part of the result."""
    ssh.write_config(server.target(tmp_path / "pins", keys, name="chatty"))
    guest = Guest(ssh.part_path("chatty"), "chatty")
    noise = "for n in 1 2 3; do echo 'welcome'; echo 'bien venue' >&2; done"
    # The noise is what a .bashrc would print: it comes before the script is read.
    chatty = [*guest.link.command(), "--", "chatty", f"{noise}; exec sh"]
    session = Session(chatty)
    session.send("echo answer; echo error >&2", Limits(), merged=False)
    out: list[bytes] = []
    err: list[bytes] = []
    while True:
        lines, errors = session.read()
        if not lines and not errors:
            break
        out += lines
        err += errors
    assert (session.code, out, err) == (0, [b"answer", b""], [b"error", b""])
    guest.close()


def test_guests_do_not_disturb_each_other(guest: Guest) -> None:
    """Several conversations run over one connection at the same time."""
    results: list[int | None] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(guest.run(f"exit {n}", warn=True).exited))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result or 0 for result in results) == list(range(6))


def test_threads_that_connect_at_once_leave_no_process_behind(guest: Guest) -> None:
    """However many threads start to connect at the same time, there is one waiting session, and it is used or ended."""
    for _ in range(20):
        started = threading.Barrier(6)

        def connect(barrier: threading.Barrier = started) -> None:
            barrier.wait()
            guest.connect()

        threads = [threading.Thread(target=connect) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        guest.give_up()
    gc.collect()  # a lost process would be reported here, as a ResourceWarning
