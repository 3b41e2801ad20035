"""Guest and ssh connect only to a machine that presents the pinned key. The server is OpenSSH's own."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.errors import CommandFailed, Unreachable
from swarm.files import write_atomically
from swarm.ssh.guest import Guest
from swarm.ssh.link import Link
from swarm.ssh.reasons import KeyRefused, LoginRefused, NoAnswer, PortClosed
from tests.sshd import USER, Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.fixture
def reach() -> Iterator[Callable[[ssh.Target], Guest]]:
    """Return a Guest for a target. Its kept connection is closed after the test."""
    made = []

    def guest(target: ssh.Target) -> Guest:
        ssh.write_config(target)
        made.append(Guest(ssh.part_path(target.name), target.name))
        return made[-1]

    yield guest
    for each in made:
        each.close()


def run(target: ssh.Target, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ssh with the generated configuration."""
    return subprocess.run(
        ssh.argv(target, words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


Reach = Callable[[ssh.Target], Guest]


def test_both_accept_the_pinned_key(target: ssh.Target, reach: Reach) -> None:
    """Guest and ssh reach a machine that presents the pinned key, as the user that the target names."""
    assert reach(target).run("id -un").stdout.strip() == USER
    done = run(target, "id", "-un")
    assert (done.returncode, done.stdout.strip()) == (0, USER)


def refused(server: Sshd, target: ssh.Target, reach: Reach) -> KeyRefused:
    """Check that both refuse before they send a user name, and return Guest's error."""
    before = len(server.log())
    with pytest.raises(KeyRefused) as caught:
        reach(target).run("id")
    done = run(target, "id")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr or "no matching host key type" in done.stderr
    assert done.stdout == ""
    # One more connection: when its end is in the log, all that the refused ones sent is.
    marker = "marker for the log"
    with socket.create_connection(("127.0.0.1", server.port)) as last:
        last.sendall(marker.encode() + b"\r\n")
        last.recv(1000)
    server.wait_for(marker)
    assert "userauth-request" not in server.log()[before:]
    return caught.value


def test_both_refuse_another_key(server: Sshd, keys: Path, dirs: Dirs, reach: Reach) -> None:
    """A guest whose key does not match the pinned key receives nothing, not even a user name."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    ssh.pin(known_hosts, ["zap", "127.0.0.1", f"[127.0.0.1]:{server.port}"], ssh.keypair("other")[1])
    error = refused(server, server.target(known_hosts, keys), reach)
    assert error.message == "zap: the host key does not match the pinned key; nothing was sent"
    assert error.hint == "if you changed the guest's host key: ./inv pin --host zap"


def test_both_refuse_a_key_of_another_kind(tmp_path: Path, keys: Path, dirs: Dirs, reach: Reach) -> None:
    """A machine that has no key of the pinned key's type is refused, too."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "ecdsa"], check=True)
    known_hosts = dirs.hosts / "zap.known_hosts"
    ssh.pin(known_hosts, ["zap"], ssh.keypair("other")[1])
    with Sshd(tmp_path / "other", [], (tmp_path / "ecdsa").read_text()) as other:
        error = refused(other, other.target(known_hosts, keys), reach)
    assert error.message == "zap: the host key does not match the pinned key; nothing was sent"


def test_both_refuse_without_a_pinned_key(server: Sshd, keys: Path, dirs: Dirs, reach: Reach) -> None:
    """Without a pinned key every machine is refused, and no key is learned."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    target = ssh.Target("zap", "127.0.0.1", known_hosts, USER, keys, port=server.port)
    assert (
        refused(server, target, reach).message
        == "zap: no host key is pinned for this machine; nothing was sent"
    )
    assert not known_hosts.exists()


@pytest.mark.parametrize(
    "text", ["zap ssh-ed25519 !!!!\n", "zap ssh-ed25519 AAAA\n", "zap unheard-of AAAA\n", "zap\n", "\0\xff\n"]
)
def test_a_damaged_pin_is_a_missing_one(
    server: Sshd, keys: Path, dirs: Dirs, text: str, reach: Reach
) -> None:
    """A known_hosts file without a key is treated like a missing file."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    known_hosts.write_text(text, encoding="latin-1")
    refused(server, ssh.Target("zap", "127.0.0.1", known_hosts, USER, keys, port=server.port), reach)


def test_comments_beside_the_pinned_key_are_fine(server: Sshd, keys: Path, dirs: Dirs, reach: Reach) -> None:
    """A known_hosts file with comments still pins its key."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    known_hosts.write_text(f"# made on Monday\n\nzap {server.public}\n", encoding="utf-8")
    target = server.target(known_hosts, keys)
    reach(target).run("true")
    assert run(target, "true").returncode == 0


def test_the_pin_survives_a_new_address(server: Sshd, keys: Path, dirs: Dirs, reach: Reach) -> None:
    """The key is pinned for the guest, not for its address: a changed vm.ip needs no new pin."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    ssh.pin(known_hosts, ["zap", "192.168.122.9"], server.public)
    target = server.target(known_hosts, keys)
    reach(target).run("true")
    assert run(target, "true").returncode == 0


def test_both_are_refused_with_the_wrong_login_key(
    server: Sshd, dirs: Dirs, tmp_path: Path, reach: Reach
) -> None:
    """An unknown login key is reported as a denied login, not as a missing answer."""
    login_key(tmp_path / "other")
    target = server.target(dirs.hosts / "zap.known_hosts", tmp_path / "other")
    with pytest.raises(LoginRefused, match="zap: login denied"):
        reach(target).run("true")
    done = run(target, "true")
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_having_no_key_at_all_is_a_refused_login(
    server: Sshd, dirs: Dirs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reach: Reach
) -> None:
    """Without a key and an agent, the login is refused at once, since a retry would not help."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(LoginRefused):
        reach(server.target(dirs.hosts / "zap.known_hosts", None)).run("true")


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port of 127.0.0.1, call `answer` with each connection, and then send nothing more."""
    callers = []
    with socket.create_server(("127.0.0.1", 0)) as made:

        def serve() -> None:
            while True:
                try:
                    caller, _ = made.accept()
                except OSError:
                    return
                callers.append(caller)
                answer(caller)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield made.getsockname()[1]
        finally:
            made.shutdown(socket.SHUT_RDWR)
            thread.join()
            for caller in callers:
                caller.close()


def closed_port() -> int:
    """Return a port of 127.0.0.1 that has no listener."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def test_a_guest_that_boots_fails_fast(server: Sshd, keys: Path, dirs: Dirs) -> None:
    """While a guest boots, a closed port means "no answer", and no second attempt looks for the cause."""
    ssh.write_config(server.target(dirs.hosts / "zap.known_hosts", keys, port=closed_port()))
    with pytest.raises(NoAnswer):
        Guest(ssh.part_path("zap"), "zap", booting=True).run("true")


ANSWERS: list[tuple[str, Callable[[socket.socket], None]]] = [
    ("silence", lambda _: None),
    ("hanging up", lambda caller: caller.shutdown(socket.SHUT_RDWR)),
    ("another protocol", lambda caller: caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    ("noise", lambda caller: caller.sendall(os.urandom(300))),
]


@pytest.mark.parametrize("answer", [answer for _, answer in ANSWERS], ids=[name for name, _ in ANSWERS])
def test_a_port_that_speaks_no_ssh_is_not_open(
    server: Sshd, keys: Path, dirs: Dirs, answer: Callable[[socket.socket], None], reach: Reach
) -> None:
    """A port that does not speak SSH is an error of that host within the limit, whatever it sends."""
    with listener(answer) as port:
        target = server.target(dirs.hosts / "zap.known_hosts", keys, port=port)
        with pytest.raises((Unreachable, CommandFailed), match=r"^zap: "):
            reach(target).run("true", timeout=1)


def test_ssh_says_why_nobody_answers(
    server: Sshd, keys: Path, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that connects for ssh reports in one line which host did not answer, and why."""
    known_hosts = dirs.hosts / "zap.known_hosts"
    ssh.pin(known_hosts, ["zap"], server.public)
    port = closed_port()
    target = ssh.Target("zap", "127.0.0.1", known_hosts, USER, keys, port=port)
    done = subprocess.run(
        ssh.argv(target, ["true"]), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (255, f"127.0.0.1:{port}: Connection refused")
    # ssh discards that message while it keeps connections; Guest asks again, whatever the account's shell is.
    monkeypatch.setenv("SHELL", "/bin/false")
    with pytest.raises(
        PortClosed, match="zap: connection refused: the machine answers, but its SSH server does not"
    ):
        Guest(ssh.part_path("zap"), "zap").run("true")


ODD_NAMES = ["two  spaces, 100%h", "quo\"te apo'strophe", "back\\slash #hash $dollar", "[star]* {brace}~"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_paths_work_everywhere(
    server: Sshd, keys: Path, base: Path, monkeypatch: pytest.MonkeyPatch, name: str, reach: Reach
) -> None:
    """State and keys may be in directories whose names are special to ssh_config, a shell or glob."""
    folder = base / "odd" / name
    for part, variable in (("state", "SWARM_STATE"), ("hosts", "SWARM_HOSTS")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(variable, str(folder / part))
    identity = folder / "my key"
    write_atomically(identity, keys.read_text(), 0o600)
    target = server.target(folder / "hosts" / "zap.known_hosts", identity)
    done = run(target, "echo", "arrived")
    assert (done.stdout, done.returncode) == ("arrived\n", 0), done.stderr
    reach(target).run("true")
    before = Link(ssh.part_path("zap"), "zap").control_path
    assert Link(ssh.part_path("zap"), "zap").control_path == before
    ssh.pin(target.known_hosts, ["zap"], ssh.keypair("new")[1])
    assert Link(ssh.part_path("zap"), "zap").control_path != before


def test_hosts_share_one_configuration(target: ssh.Target, server: Sshd, keys: Path, dirs: Dirs) -> None:
    """`ssh -F CONFIG NAME` works for every written host, and writing one leaves the others unchanged."""
    config = ssh.write_config(target)
    ssh.write_config(server.target(dirs.hosts / "bee.known_hosts", keys, name="bee"))
    for name in ("zap", "bee"):
        done = subprocess.run(
            ["ssh", "-F", config, name, "echo", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{name}\n"
    before = {path: path.stat().st_mtime_ns for path in config.parent.rglob("*") if path.is_file()}
    ssh.write_config(target)
    assert {path: path.stat().st_mtime_ns for path in config.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("near", [True, False])
def test_the_costly_key_exchange_is_for_the_network_only(
    server: Sshd, keys: Path, dirs: Dirs, *, near: bool
) -> None:
    """A local guest skips the slow post-quantum key exchange. Over a network OpenSSH's default stays."""
    target = replace(server.target(dirs.hosts / "zap.known_hosts", keys), near=near)
    words = ["ssh", "-v", "-F", str(ssh.write_config(target)), "zap", "true"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    asked = subprocess.run(
        ["ssh", "-F", "/dev/null", "-G", "zap"], capture_output=True, text=True, check=True
    ).stdout
    default = next(
        line.split()[1].split(",") for line in asked.splitlines() if line.startswith("kexalgorithms ")
    )
    expected = next(name for name in default if not (near and name.startswith("sntrup")))
    assert f"kex: algorithm: {expected}\n" in done.stderr
