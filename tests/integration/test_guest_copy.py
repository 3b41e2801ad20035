"""The limits on files that are copied to and from a guest."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup.swap import send
from swarm.errors import CommandFailed
from swarm.ssh.guest import Guest
from swarm.ssh.session import Limits
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 5 << 19  # bytes; more than ssh reads ahead, which is 2 MiB
RATE = 384 << 10  # bytes per second that the slow network carries in each direction
NETWORK = f"""
import os, select, socket, sys, threading, time

over = select.poll()
over.register(0, 0)  # nothing but that ssh has ended
guest, most = socket.create_connection((sys.argv[1], int(sys.argv[2]))), int(sys.argv[3])

def move(take, give, most=sys.maxsize):
    while data := take(1 << 14):
        most -= len(data)
        while most < 0:
            if over.poll(1000):
                os._exit(0)
        give(data)
        time.sleep(len(data) / {RATE})
    os._exit(0)

threading.Thread(target=move, args=(guest.recv, lambda data: os.write(1, data)), daemon=True).start()
move(lambda count: os.read(0, count), guest.sendall, most)
"""


@pytest.fixture
def network(server: Sshd, keys: Path, tmp_path: Path) -> Iterator[Callable[[int], Guest]]:
    """Give a function that returns a Guest behind a slow network, which carries so many bytes to it and no more."""
    made: list[Guest] = []
    ssh.write_config(server.target(tmp_path / "pins", keys, name="slow"))
    program, config = tmp_path / "network.py", tmp_path / "slow.conf"
    program.write_text(NETWORK, encoding="utf-8")

    def make(most: int) -> Guest:
        lines = ssh.part_path("slow").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if "Proxy" not in line]
        kept.append(f"    ProxyCommand {sys.executable} {program} %h %p {most}")
        config.write_text("\n".join(kept) + "\n", encoding="utf-8")
        made.append(Guest(config, "slow"))
        assert made[0].run("true").ok
        return made[0]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to copy."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.mark.slow
def test_a_slow_upload_is_progress(network: Callable[[int], Guest], source: Path, tmp_path: Path) -> None:
    """An upload goes on as long as bytes arrive, also when ssh has read the whole file long before."""
    network(sys.maxsize).put(source, str(tmp_path / "there"), limits=Limits(silence=3))
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_an_upload_that_stalls_is_given_up(
    network: Callable[[int], Guest], source: Path, tmp_path: Path
) -> None:
    """An upload of which nothing arrives any more ends, and the message states the limit."""
    slow = network(SIZE // 8)
    with pytest.raises(CommandFailed, match=f"^slow: copying {source} to .* made no progress for 3 s"):
        slow.put(source, str(tmp_path / "there"), limits=Limits(silence=3))


@pytest.mark.slow
def test_a_copy_has_a_time_limit(network: Callable[[int], Guest], source: Path, tmp_path: Path) -> None:
    """A copy ends when its time is up, although bytes still arrive, and the message states that limit."""
    slow = network(sys.maxsize)
    with pytest.raises(CommandFailed, match=f"^slow: copying {source} to .* timed out after 3 s"):
        slow.put(source, str(tmp_path / "there"), limits=Limits(total=3))
    with pytest.raises(CommandFailed, match=f"^slow: copying {source} timed out after 3 s"):
        slow.get(str(source), tmp_path / "back", limits=Limits(total=3))
    assert not (tmp_path / "back").exists()


def test_a_copy_connects_whatever_the_accounts_shell_is(
    server: Sshd, keys: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy may be what connects, also in a service whose account may not log in."""
    monkeypatch.setenv("SHELL", "/bin/false")
    ssh.write_config(server.target(tmp_path / "pins", keys, name="fresh"))
    guest = Guest(ssh.part_path("fresh"), "fresh")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(source, folder)
    try:
        guest.put(source, str(tmp_path / "copy"))
        guest.close()
        assert send(guest, "fresh", folder, str(tmp_path / "tree")) == ""
    finally:
        guest.close()
    for copy in (tmp_path / "copy", tmp_path / "tree" / source.name):
        assert copy.read_bytes() == source.read_bytes()


def test_a_file_larger_than_the_free_space_is_refused(guest: Guest, tmp_path: Path) -> None:
    """A guest that announces more than the free space of the target's file system fills no disk."""
    source = tmp_path / "file"
    source.touch()
    os.truncate(source, shutil.disk_usage(tmp_path).free + (1 << 40))
    with pytest.raises(CommandFailed, match=f"^guest: {source}: the guest announced .* are free here"):
        guest.get(str(source), tmp_path / "back", limits=Limits(total=2))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ('sh -c "$SSH_ORIGINAL_COMMAND"; exec yes', "/etc/hostname: the guest sent more than the file"),
        ("exec yes >&2", "copying /etc/hostname timed out after 5 s"),
    ],
)
@pytest.mark.usefixtures("dirs")
def test_a_guest_that_never_stops_sending_is_left(
    keys: Path, tmp_path: Path, command: str, message: str
) -> None:
    """A guest that sends without end ends no later than the time limit, and leaves no file."""
    authorized = [keys.with_suffix(".pub").read_text()]
    with Sshd(tmp_path / "sshd", authorized, settings=f"ForceCommand {command}") as server:
        ssh.write_config(server.target(tmp_path / "pins", keys, name="endless"))
        guest = Guest(ssh.part_path("endless"), "endless")
        with pytest.raises(CommandFailed, match=f"^endless: {message}"):
            guest.get("/etc/hostname", tmp_path / "back", limits=Limits(total=5))
        guest.close()
    assert not (tmp_path / "back").exists()
