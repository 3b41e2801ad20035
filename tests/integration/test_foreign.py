"""A machine that swarm did not make (hypervisor.uri: none): its key is pinned only if it is confirmed."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.paths import ROOT
from swarm.vm.pin import fingerprint
from tests.sshd import USER, Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(USER != "root", reason="the test's sshd lets only root in as root")

FILE = "hypervisor: {{uri: none}}\nmachine:\n  address: 127.0.0.1\n  hostname: claw\n  port: {port}\n"


@pytest.fixture
def server(dirs: Dirs) -> Iterator[Sshd]:
    """A machine that lets swarm's own key in, with the host file claw."""
    folder = dirs.state / "sshd"
    folder.mkdir()
    key = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    with Sshd(folder, [key]) as made:
        (dirs.hosts / "claw.yaml").write_text(FILE.format(port=made.port), encoding="utf-8")
        yield made
        path = ssh.part_path("claw")
        if path.exists():
            ssh.Guest(path, "claw").close()


def inv(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    argv = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
    return subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
    )


def typed(answer: str, *words: str) -> tuple[int, str]:
    """Run a command on a terminal, type `answer` at its question, and return the exit code and what it showed."""
    argv = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        shown = b""
        while b"fingerprint:" not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, answer.encode() + b"\n")
        try:
            while data := os.read(ours, 1024):
                shown += data
        except OSError:  # the terminal's other end is closed: the command has ended
            pass
        code = running.wait(60)
    os.close(ours)
    return code, shown.decode("utf-8", "replace")


def pinned(dirs: Dirs) -> Path:
    """The file with the pinned key."""
    return dirs.hosts / "claw.known_hosts"


def expect(dirs: Dirs, shown: str) -> None:
    """Write a fingerprint into the host file."""
    path = dirs.hosts / "claw.yaml"
    kept = [line for line in path.read_text("utf-8").splitlines() if "fingerprint" not in line]
    path.write_text("\n".join([*kept, f"  fingerprint: {shown}", ""]), encoding="utf-8")


def test_a_key_is_not_accepted_unseen(server: Sshd, dirs: Dirs) -> None:
    """Without a terminal and without a fingerprint in the host file, the key is named and not pinned."""
    done = inv("provision", "--host", "claw")
    assert done.returncode == 1
    assert "it was not confirmed" in done.stderr
    assert f"machine.fingerprint: {fingerprint(server.public)}" in done.stderr
    assert not pinned(dirs).exists()
    planned = inv("plan", "--host", "claw")
    assert (planned.returncode, fingerprint(server.public) in planned.stderr) == (2, True)


def test_a_fingerprint_in_the_host_file_confirms_the_key(server: Sshd, dirs: Dirs) -> None:
    """The key with this fingerprint is pinned without a question; a second run and the plan have nothing to do."""
    expect(dirs, fingerprint(server.public))
    first = inv("provision", "--host", "claw")
    assert first.returncode == 0, first.stderr
    assert "claw answers at 127.0.0.1" in first.stderr
    assert ssh.pinned(pinned(dirs)) == " ".join(server.public.split()[:2])
    second = inv("provision", "--host", "claw")
    assert (second.returncode, "nothing to do" in second.stderr) == (0, True)
    assert inv("plan", "--host", "claw", "--only", "vm").returncode == 0
    assert inv("ssh", "--host", "claw", "--", "id", "-un").stdout == "root\n"


@pytest.mark.usefixtures("server")
def test_another_key_than_the_expected_is_refused(dirs: Dirs) -> None:
    """If the machine shows another key than the host file expects, both are named and nothing is pinned."""
    other = fingerprint(ssh.keypair("other")[1])
    expect(dirs, other)
    done = inv("provision", "--host", "claw")
    assert done.returncode == 1
    assert f"its host file expects {other}" in done.stderr
    assert not pinned(dirs).exists()


@pytest.mark.parametrize(("answer", "accepted"), [("", False), ("no", False), ("yes", True), ("{own}", True)])
def test_a_person_confirms_the_key(server: Sshd, dirs: Dirs, answer: str, *, accepted: bool) -> None:
    """On a terminal the key is shown, and yes or its fingerprint pins it. Any other answer pins nothing."""
    code, shown = typed(answer.format(own=fingerprint(server.public)), "provision", "--host", "claw")
    assert fingerprint(server.public) in shown
    assert (code == 0) is accepted, shown
    assert pinned(dirs).exists() is accepted


@pytest.mark.usefixtures("server")
def test_a_machine_that_was_made_again(dirs: Dirs) -> None:
    """A changed key is never trusted by itself: status says so, and `pin` shows both keys and asks."""
    old = ssh.keypair("old")[1]
    ssh.pin(pinned(dirs), ["claw", "127.0.0.1"], old)
    assert "other host key" in inv("status", "--host", "claw").stdout
    assert inv("pin", "--host", "claw", "--yes").returncode == 1
    assert ssh.pinned(pinned(dirs)) == " ".join(old.split()[:2])
    code, shown = typed("yes", "pin", "--host", "claw")
    assert code == 0, shown
    assert fingerprint(old) in shown
    assert inv("provision", "--host", "claw").returncode == 0


def test_a_run_of_steps_does_without_fabric(server: Sshd, dirs: Dirs) -> None:
    """A run asks the guest and explains its answer without ever loading Fabric, which costs more than to ask."""
    ssh.pin(pinned(dirs), ["claw"], server.public)
    with (dirs.hosts / "claw.yaml").open("a", encoding="utf-8") as file:
        file.write("openclaw: {user: nobody-has-this}\n")
    argv = [sys.executable, "-P", "-X", "importtime", str(ROOT / "swarm" / "__main__.py")]
    done = subprocess.run(
        [*argv, "customize", "--plan", "--host", "claw"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert "the guest has no user nobody-has-this" in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "swarm.ssh.conversation" in loaded
    assert not {"fabric", "paramiko"} & loaded


def test_a_machine_that_does_not_answer(dirs: Dirs) -> None:
    """A machine whose port is closed is one sentence with a hint."""
    (dirs.hosts / "claw.yaml").write_text(FILE.format(port=1), encoding="utf-8")
    done = inv("provision", "--host", "claw")
    assert done.returncode == 1
    assert "claw: 127.0.0.1 port 1 shows no host key" in done.stderr
    assert "machine.port" in done.stderr


@pytest.mark.parametrize("verb", ["start", "stop", "destroy", "console"])
@pytest.mark.usefixtures("server")
def test_there_is_no_vm_to_work_on(verb: str) -> None:
    """What only the machine's own engine can do is refused with a sentence."""
    done = inv(verb, "--host", "claw", *(["--yes"] if verb == "destroy" else []))
    assert done.returncode != 0
    assert "swarm did not make this machine" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("server")
def test_user_data_lets_swarm_in() -> None:
    """The printed user data is YAML with the public key and the host name, and holds no private key."""
    from ruamel.yaml import YAML

    done = inv("provision", "--host", "claw", "--print-user-data")
    assert done.stdout.startswith("#cloud-config\n")
    tree = YAML(typ="safe", pure=True).load(done.stdout)
    key = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    root = next(user for user in tree["users"] if user != "default")
    assert (root["name"], root["ssh_authorized_keys"], tree["hostname"]) == ("root", [key], "claw")
    assert "PRIVATE" not in done.stdout


def test_the_time_limit_covers_the_host_key(dirs: Dirs) -> None:
    """A machine whose port is open but silent is given up after --timeout, not after ssh-keyscan's own 20 seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (dirs.hosts / "claw.yaml").write_text(FILE.format(port=port), encoding="utf-8")
        start = time.monotonic()
        done = inv("provision", "--host", "claw", "--timeout", "1")
    assert time.monotonic() - start < 15
    assert (done.returncode, done.stdout) == (1, "")
    assert f"claw: 127.0.0.1 port {port} shows no host key" in done.stderr
