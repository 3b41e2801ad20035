"""Which keys ssh offers, with a real agent and a real sshd, which ends a connection after six keys."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.ssh.agent import held
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import LoginRefused, TooManyKeys
from tests.sshd import USER, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sshd import Sshd


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path) -> Iterator[Path]:
    """An agent with ten keys that no guest knows, and then the one that may log in."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        for number in range(10):
            login_key(tmp_path / str(number))
        files = [*(tmp_path / str(number) for number in range(10)), keys]
        subprocess.run(["ssh-add", "-q", *files], check=True, stdin=subprocess.DEVNULL)
        yield socket
        running.kill()


@contextlib.contextmanager
def saying(path: Path, answer: bytes) -> Iterator[None]:
    """Let something at `path` take one connection, say `answer`, and close."""

    def talk() -> None:
        with listener.accept()[0] as client, contextlib.suppress(OSError):
            client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)
        talker = threading.Thread(target=talk)
        talker.start()
        try:
            yield
        finally:
            talker.join()


def guest(server: Sshd, tmp_path: Path, *authorized: str) -> Guest:
    """Return the server as the guest of a host file that names the keys in `authorized`."""
    ssh.pin(tmp_path / "pins", ["many"], server.public)
    ssh.write_config(
        ssh.Target("many", "127.0.0.1", tmp_path / "pins", USER, port=server.port, authorized=authorized)
    )
    return Guest(ssh.part_path("many"), "many")


@pytest.mark.usefixtures("agent")
def test_the_host_files_key_is_offered_first(server: Sshd, keys: Path, tmp_path: Path) -> None:
    """Of many keys in the agent, the one that the host file names is offered first, and the login succeeds."""
    public = keys.with_suffix(".pub").read_text(encoding="utf-8")
    made = guest(server, tmp_path, login_key(tmp_path / "colleague"), public)
    assert made.run("echo in").stdout == "in\n"
    made.close()


@pytest.mark.usefixtures("agent")
def test_an_earlier_key_still_logs_in(server: Sshd, keys: Path, tmp_path: Path) -> None:
    """A guest that only knows a key that the host file no longer names can still be reached with it."""
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    subprocess.run(["ssh-add", "-q", keys], check=True)
    made = guest(server, tmp_path, login_key(tmp_path / "new"))
    assert made.run("echo in").stdout == "in\n"
    made.close()


@pytest.mark.usefixtures("agent")
def test_a_key_in_a_file_comes_before_an_agents_many_others(
    server: Sshd, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only a file has the host file's key, the login succeeds beside an agent that holds ten other keys."""
    subprocess.run(["ssh-add", "-q", "-d", keys], check=True, capture_output=True)
    folder = tmp_path / ".ssh"
    folder.mkdir()
    for suffix in ("", ".pub"):
        shutil.copy(keys.with_suffix(suffix), folder / f"id_ed25519{suffix}")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = guest(server, tmp_path, (folder / "id_ed25519.pub").read_text(encoding="utf-8"))
    assert made.run("echo in").stdout == "in\n"
    made.close()


def test_an_agent_that_says_anything_else_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is gone, or whose answer is cut, endless or of another form, is one without keys."""
    for number, answer in enumerate(
        (b"", b"\0\0\0\5\x0c", b"\xff" * 600_000, b"\0\0\0\5\x0c\xff\xff\xff\xff")
    ):
        path = tmp_path / f"agent{number}"
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        assert held() == []  # nothing listens
        with saying(path, answer):
            assert held() == []


@pytest.mark.usefixtures("agent")
def test_too_many_keys_are_named(server: Sshd, tmp_path: Path) -> None:
    """If the guest gives up before its key was offered, the error says so, and how to offer it first."""
    with pytest.raises(
        TooManyKeys, match="many: login denied: the guest accepted none of the first keys"
    ) as caught:
        guest(server, tmp_path, login_key(tmp_path / "other")).run("true")
    assert re.search("ssh-add", caught.value.hint or "")
    assert isinstance(caught.value, LoginRefused)
