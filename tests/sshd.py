"""OpenSSH's real server for tests, on its own port and with its own keys. It leaves no trace on this machine.

If sshd is not installed, the distribution's package is unpacked into a cache. Installing it would start a
service. As root, the server has a host name of its own, and a mount namespace in which the test provides /run,
passwd, shadow and hosts.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from swarm import locks, ssh
from swarm.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["USER", "Sshd", "login_key", "personal_ssh"]

USER = getpass.getuser()
_CACHE = Path("/var/cache/swarm-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "swarm-tests"
_WITHIN = 20.0  # seconds to come up, on a machine that is busy with other tests

# $1: the test's folder, $2: the folder with the unpacked package, or empty, $3...: sshd and its arguments.
_INSIDE = """
set -e
folder=$1 unpacked=$2
shift 2
for name in passwd shadow hosts; do mount --bind "$folder/$name" "/etc/$name"; done
if [ -e "$unpacked/usr/lib/openssh/sshd-session" ]; then mount --bind "$unpacked/usr/lib/openssh" /usr/lib/openssh; fi
mount --bind "$folder/run" /run
exec "$@"
"""


@cache
def _unpacked() -> Path | None:
    """Return the folder with an unpacked sshd, or None if sshd is installed. Skip the test if neither is available."""
    if Path("/usr/sbin/sshd").exists():
        return None
    place = _CACHE / "openssh-server"
    if not shutil.which("apt-get"):
        pytest.skip("sshd is not installed, and there is no apt-get to download it")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with locks.hold(_CACHE / "openssh-server.lock"):
        if not place.exists():
            fresh = place.with_name("openssh-server.new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            fetched = subprocess.run(
                ["apt-get", "download", "openssh-server", "libwrap0"],
                cwd=fresh,
                check=False,
                capture_output=True,
                text=True,
            )
            if fetched.returncode:
                pytest.skip(
                    f"sshd is not installed, and its package can't be downloaded: {fetched.stderr.strip()[-200:]}"
                )
            for package in fresh.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=fresh, check=True)
            fresh.rename(place)
    return place


def login_key(path: Path) -> str:
    """Write a new private key that only its owner can read, and return the public key."""
    private, public = ssh.keypair("test")
    write_atomically(path, private, 0o600)
    return public


class Sshd:
    """One server, with its own folder and the public keys that may log in as USER.

    `within` is the PID of a process in whose network namespace the server listens. `fixed` is the address that it then
    listens at, on the port of SSH; by default it is loopback on a free port.
    `settings` are further lines of its configuration, before all others.
    """

    def __init__(
        self,
        folder: Path,
        authorized: Sequence[str],
        host_key: str | None = None,
        within: int | None = None,
        *,
        fixed: str = "",
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.private, self.public = ssh.keypair("host") if host_key is None else (host_key, "")
        self.run = folder / "run"
        (self.run / "sshd").mkdir(parents=True)
        self._write("host_key", self.private, 0o600)
        self._write("authorized_keys", "".join(f"{key}\n" for key in authorized), 0o600)
        self.within = within
        self.port = 0
        self._fixed = fixed
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def log(self) -> str:
        """Return the server's log."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the server's log contains `text`."""
        limit = time.monotonic() + _WITHIN
        while text not in self.log():
            assert time.monotonic() < limit, f"{text!r} is not in sshd's log:\n{self.log()[-3000:]}"
            time.sleep(0.01)

    def target(
        self, known_hosts: Path, identity: Path | None, name: str = "zap", port: int | None = None
    ) -> ssh.Target:
        """Return the server as a target. Pin its key if `known_hosts` does not exist."""
        if not known_hosts.exists():
            ssh.pin(known_hosts, [name], self.public)
        return ssh.Target(name, "127.0.0.1", known_hosts, USER, identity, port=port or self.port)

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = 22 if self._fixed else free.getsockname()[1]
        unpacked = _unpacked()
        self._write("config", self._config(unpacked), 0o600)
        program = [
            str((unpacked or Path("/")) / "usr/sbin/sshd"),
            "-D",
            "-f",
            str(self.folder / "config"),
            "-E",
            str(self.folder / "log"),
        ]
        if os.geteuid() == 0:
            self._accounts()
            wrap = [
                "unshare",
                "--uts",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                _INSIDE,
                "sh",
                str(self.folder),
                str(unpacked or ""),
            ]
            enter = ["nsenter", f"--net=/proc/{self.within}/ns/net"] if self.within else []
            program = [*enter, *wrap, *program]
        libraries = f"{unpacked}/lib/x86_64-linux-gnu:{unpacked}/usr/lib/x86_64-linux-gnu"
        environment = {**os.environ, **({"LD_LIBRARY_PATH": libraries} if unpacked else {})}
        self._process = subprocess.Popen(program, env=environment, stdin=subprocess.DEVNULL)
        limit = time.monotonic() + _WITHIN
        while not (self.folder / "log").exists() or "Server listening on" not in self.log():
            assert self._process.poll() is None, f"sshd exited with {self._process.returncode}"
            assert time.monotonic() < limit, f"sshd did not start within {_WITHIN:g} s"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()

    def _config(self, unpacked: Path | None) -> str:
        newer = unpacked is not None and (unpacked / "usr/lib/openssh/sshd-session").exists()
        lines = [
            self._settings,
            f"Port {self.port}",
            f"ListenAddress {self._fixed or '127.0.0.1'}",
            f'HostKey "{self.folder}/host_key"',
            f'AuthorizedKeysFile "{self.folder}/authorized_keys"',
            "StrictModes no",  # the folders above belong to whoever runs the tests
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "UseDNS no",
            "PidFile none",
            "MaxStartups 200",
            "LogLevel INFO" if self._fixed else "LogLevel DEBUG1",
            *(
                ["PerSourcePenalties no"] if newer else []
            ),  # OpenSSH 9.8: refused logins would shut the tests out
        ]
        return "\n".join(lines) + "\n"

    def _accounts(self) -> None:
        """Write the accounts that the server uses (the machine's, sshd's unprivileged one, and root) and its hosts."""
        self._write("hosts", Path("/etc/hosts").read_text(encoding="utf-8"), 0o644)
        accounts = Path("/etc/passwd").read_text(encoding="utf-8")
        if "\nsshd:" not in accounts:
            accounts += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        self._write("passwd", accounts, 0o644)
        self._write("shadow", "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n", 0o600)

    def _write(self, name: str, text: str, mode: int) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)


def personal_ssh(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `ssh` without -F read `text`, and not the person's own configuration. Return the file with the text."""
    config, script, real = folder / "config", folder / "bin" / "ssh", shutil.which("ssh")
    config.write_text(text, encoding="utf-8")
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" = -F ] && exec {real} "$@"; done\nexec {real} -F {config} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return config
