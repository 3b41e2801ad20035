"""The connection to a host: what goes over it, and what is said when it can't be had."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from swarm.deadline import Deadline
from swarm.errors import CommandFailed, Unreachable, UsageError
from swarm.ssh import KeyRefused, LoginRefused, PortClosed
from swarm.ssh.remote import ConnectionLost, NoAnswer, Remote

if TYPE_CHECKING:
    from pathlib import Path

    from tools.lab import Machine

pytestmark = pytest.mark.slow


def changed(machine: Machine, folder: Path, pattern: str, text: str) -> Path:
    """A copy of the machine's SSH configuration with one setting changed."""
    path = folder / "config"
    path.write_text(re.sub(pattern, text, machine.config.read_text()))
    return path


def test_output_and_exit_code(remote: Remote) -> None:
    """A script's output, standard error included, and its exit code come back exactly."""
    outcome = remote.run("printf 'one\\ntwo'; echo three >&2; exit 7")
    assert (outcome.code, outcome.text) == (7, "one\ntwothree\n")


def test_any_bytes(remote: Remote) -> None:
    """Every byte there is survives the way back."""
    script = 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done'
    assert remote.run(script).output == bytes(range(256))


def test_large_script(remote: Remote) -> None:
    """A script larger than any command line may be arrives whole."""
    text = "x" * 3_000_000
    assert remote.run(f'text={text}\nprintf %s "${{#text}}"').text == "3000000"


def test_lines_arrive_as_they_are_printed(remote: Remote) -> None:
    """A line is handed over when it is printed, not when the script ends."""
    seen: list[str] = []

    def answer(line: str) -> None:
        seen.append(line)
        if line == "ready":
            Remote(remote.config, remote.alias).run("touch /tmp/go")

    # The script waits for what is done on seeing its first line; if that came late, this would hang until the deadline.
    remote.run(
        "rm -f /tmp/go; echo ready; until [ -e /tmp/go ]; do sleep 0.1; done; echo went", answer, Deadline(30)
    )
    assert seen == ["ready", "went"]


def test_one_connection(remote: Remote) -> None:
    """Scripts share one connection: the second one needs no new login."""
    remote.run("true")
    logins = "journalctl -q -u ssh -g 'Accepted publickey' -o cat | wc -l"
    before = remote.run(logins).text
    remote.run("true")
    assert remote.run(logins).text == before


def test_no_standard_input(remote: Remote) -> None:
    """A command that reads standard input finds it empty, and does not eat the rest of the script."""
    assert remote.run("cat; echo after").text == "after\n"


def test_half_a_script(remote: Remote) -> None:
    """A script whose second half did not arrive does not run at all, and the error says so."""
    with pytest.raises(CommandFailed, match="could not read the script"):
        remote.run("touch /tmp/half; if true; then")
    assert remote.run("ls /tmp/half").code != 0


def test_as_root_by_sudo(machine: Machine) -> None:
    """A login that may use sudo without a password works as root does."""
    config = machine.login("helper", "helper ALL=(ALL) NOPASSWD: ALL")
    assert Remote(config, machine.alias).run("id -un").text == "root\n"
    assert Remote(config, machine.alias, root=False).run("id -un").text == "helper\n"


def test_no_sudo(machine: Machine) -> None:
    """A login that may not become root is told so, with sudo's own words."""
    with pytest.raises(LoginRefused, match="may not become root"):
        Remote(machine.login("plain"), machine.alias).run("true")


def test_another_host_key(machine: Machine, tmp_path: Path) -> None:
    """A machine with another host key than the pinned one gets not a byte of the script."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    (tmp_path / "pins").write_text(f"{machine.alias} {(tmp_path / 'other.pub').read_text()}")
    config = changed(machine, tmp_path, "UserKnownHostsFile .*", f"UserKnownHostsFile {tmp_path / 'pins'}")
    with pytest.raises(KeyRefused, match="another host key"):
        Remote(config, machine.alias).run("touch /tmp/intruder")
    assert machine.ssh("ls /tmp").find("intruder") == -1


def test_no_pinned_key(machine: Machine, tmp_path: Path) -> None:
    """A machine without a pinned key is refused, even if the configuration would accept it."""
    config = changed(machine, tmp_path, "UserKnownHostsFile .*", f"UserKnownHostsFile {tmp_path / 'none'}")
    config.write_text(
        config.read_text().replace("StrictHostKeyChecking yes", "StrictHostKeyChecking accept-new")
    )
    with pytest.raises(KeyRefused, match="no host key is pinned"):
        Remote(config, machine.alias).run("true")
    assert not (tmp_path / "none").exists()


def test_new_pin_new_connection(machine: Machine, tmp_path: Path) -> None:
    """A kept connection is not used any more once the pinned key is another one."""
    pins = tmp_path / "pins"
    config = changed(machine, tmp_path, "UserKnownHostsFile (.*)", f"UserKnownHostsFile {pins}")
    pins.write_text((machine.world.folder / f"{machine.alias}.known_hosts").read_text())
    Remote(config, machine.alias).run("true")
    pins.write_text("")
    with pytest.raises(KeyRefused):
        Remote(config, machine.alias).run("true")


def test_closed_port(machine: Machine, tmp_path: Path) -> None:
    """A closed port is called that."""
    config = (
        changed(machine, tmp_path, "ProxyCommand .*", "HostName 127.0.0.1\n  Port 1")
        .read_text()
        .replace(f"HostName {machine.ip}\n", "")
    )
    (tmp_path / "config").write_text(config)
    with pytest.raises(PortClosed, match="connection refused"):
        Remote(tmp_path / "config", machine.alias).run("true")


def test_unknown_name(machine: Machine, tmp_path: Path) -> None:
    """A name that leads nowhere is called no answer."""
    config = (
        changed(machine, tmp_path, "ProxyCommand .*", "").read_text().replace(machine.ip, "nowhere.invalid")
    )
    (tmp_path / "config").write_text(config)
    with pytest.raises(NoAnswer):
        Remote(tmp_path / "config", machine.alias).run("true")


def test_wrong_key(machine: Machine, tmp_path: Path) -> None:
    """A login that the machine denies is called that."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    config = changed(machine, tmp_path, "IdentityFile .*", f"IdentityFile {tmp_path / 'stranger'}")
    with pytest.raises(LoginRefused, match="login denied"):
        Remote(config, machine.alias).run("true")


def test_wrong_configuration(machine: Machine, tmp_path: Path) -> None:
    """An SSH configuration that ssh rejects, or that is not there, is named."""
    config = changed(machine, tmp_path, "User root", "Usser root")
    with pytest.raises(Unreachable, match="rejects its configuration"):
        Remote(config, machine.alias).run("true")
    with pytest.raises(UsageError, match="there is no SSH configuration"):
        Remote(tmp_path / "missing", machine.alias).run("true")


def test_deadline(remote: Remote) -> None:
    """When the time is up the wait ends, and the error says how long it was."""
    start = time.monotonic()
    with pytest.raises(CommandFailed, match=r"the time for this work \(1 s\) is up"):
        remote.run("sleep 60", deadline=Deadline(1))
    assert time.monotonic() - start < 50


def test_killed_connection(machine: Machine, remote: Remote) -> None:
    """A connection that is cut while a script runs is called lost, not denied and not finished."""
    remote.run("true")

    def cut_it(line: str) -> None:
        assert line == "begun"
        # The server's process for this login is the parent of the shell that waits.
        machine.ssh("kill $(cat /tmp/waiting)")

    with pytest.raises(ConnectionLost):
        remote.run("echo $PPID >/tmp/waiting; echo begun; sleep 20; echo over", cut_it, Deadline(60))


def test_dead_kept_connection(machine: Machine, remote: Remote) -> None:
    """A kept connection whose other end is gone is replaced, and the work is done."""
    remote.run("true")
    machine.reboot()
    assert remote.run("echo back").text == "back\n"


def test_connection_given_up(machine: Machine) -> None:
    """If what should be sent can't be put together, the connection that was begun meanwhile is ended."""
    remote = machine.remote()
    with pytest.raises(CommandFailed), remote.connecting():
        raise CommandFailed("nothing to send")
    assert remote.run("echo fresh").text == "fresh\n"
    remote.close()
