"""A probe that logs in to a guest as root: by ssh(1) with the pinned key, as swarm does."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from swarm.errors import Unreachable
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from socket import socket

__all__ = ["Probe"]

_INTERVAL = 0.1  # seconds between two attempts
_LIMIT = (
    900.0  # seconds for one provisioning; emulated, on a computer with other work, a boot takes a few minutes
)
_LOGIN = 60  # seconds for one login; an emulated guest needs up to ten for the key exchange
_ASK = "mokutil --sb-state 2>&1 || true; id --user"
_OTHER_KEY = ("HOST IDENTIFICATION HAS CHANGED", "Host key verification failed")


class Probe:
    """Logs in to guests. Given the private key, a folder for host keys, and two ways into the guests' network.

    `dial` is the program that connects to a host and port and passes the socket to ssh (ProxyUseFdpass). `connect`
    opens a TCP connection to port 22 of an address or raises OSError. It shows when sshd listens, without a program.
    """

    def __init__(
        self, key: Path, folder: Path, dial: Sequence[str | Path], connect: Callable[[str], socket]
    ) -> None:
        self._key, self._folder, self._dial, self._connect = key, folder, dial, connect

    def wait(self, address: str, host_key: Callable[[], str | None] | None, alive: Callable[[], None]) -> str:
        """Wait until a login as root at `address` succeeds. Return what the guest says about Secure Boot.

        `host_key` returns the expected key as "type key", or None while it is unknown. Raise Unreachable if the guest
        has another one. For a guest that cannot be given a key, `host_key` is None: any key is accepted, since such a
        guest receives no secret and is destroyed at once. `alive` raises an error if there is nothing left to wait for.
        """
        self._pins(address).unlink(missing_ok=True)
        limit, last, listens = time.monotonic() + _LIMIT, "no attempt yet", False
        while time.monotonic() < limit:
            alive()
            expected = host_key() if host_key else None
            try:
                if not listens:
                    self._connect(address).close()
                    listens = True
                if host_key is None or expected:
                    return self._ask(address, expected)
            except (OSError, subprocess.TimeoutExpired) as error:
                last = str(error) or type(error).__name__
            time.sleep(_INTERVAL)
        raise Unreachable(f"no login at {address} within {_LIMIT:.0f} s; the last attempt: {last}")

    def _ask(self, address: str, expected: str | None) -> str:
        """Log in once. Raise ConnectionError if that fails, Unreachable if the host key or the user is wrong."""
        if expected:
            self._pins(address).write_text(f"{address} {expected}\n", encoding="utf-8")
        done = subprocess.run(
            self._command(address, known=expected is not None),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_LOGIN,
            env={**os.environ, "SHELL": "/bin/sh"},  # ssh runs a ProxyCommand with it
        )
        if any(text in done.stderr for text in _OTHER_KEY):
            raise Unreachable(f"{address} shows another host key than it was given")
        if done.returncode:
            raise ConnectionError(done.stderr.strip()[-500:] or f"ssh ended with exit code {done.returncode}")
        *said, user = done.stdout.splitlines()
        if user != "0":
            raise Unreachable(f"a login at {address} is not root's: {done.stdout[-500:]!r}")
        return said[0] if said else ""

    def _command(self, address: str, *, known: bool) -> list[str]:
        settings = {
            "BatchMode": "yes",
            "IdentityFile": self._key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self._pins(address),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes" if known else "accept-new",
            "KexAlgorithms": "-sntrup761*",  # as swarm has it: the connection does not leave this computer
            "ConnectTimeout": _LOGIN,
            "ProxyCommand": f"{quote(*self._dial)} %h %p",
            "ProxyUseFdpass": "yes",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "/dev/null", *options, f"root@{address}", _ASK]

    def _pins(self, address: str) -> Path:
        return self._folder / f"{address}.known_hosts"
