"""Ask the machine of a remote hypervisor about folders and its own addresses, which libvirt does not tell.

One read-only script goes over SSH, the way on which libvirt and the guests are reached too. A hypervisor that is
reached by TLS, or that gives the login no shell, is not asked.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm.errors import SwarmError
from swarm.hypervisor.uri import jump, remote
from swarm.ssh.jump import Jump
from swarm.ssh.session import Limits, Session
from swarm.vm.answer import Answer, Entry, Malformed, parse, script

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import PurePath

    from swarm.inventory import Host

__all__ = ["Found", "Remote", "ask", "machine", "paths_of"]

_SECONDS = 20.0
_LIMITS = Limits(total=_SECONDS, silence=_SECONDS, line=1 << 13, output=1 << 18)
_WORDS = 300  # characters of what ssh says
_NO_SHELL = "only over SSH can it be asked"


@dataclass(frozen=True)
class Found:
    """What is known of a remote machine.

    `answer` is its own, or None: then `problem` says why. `asked` is whether there is a way to ask it. `reached` are
    the addresses at which it is reached, or None if they are not known.
    """

    answer: Answer | None = None
    problem: str = ""
    asked: bool = True
    reached: frozenset[IPv4Address] | None = None

    def entry(self, path: PurePath) -> Entry | None:
        """Return what the machine says of a path; None if it was not asked, or may not be looked at."""
        entry = self.answer.paths.get(str(path)) if self.answer else None
        return entry if entry and entry.kind != "hidden" else None


@dataclass(frozen=True)
class Remote:
    """A remote hypervisor that is asked once, in the background. Given its URI and the paths to look at."""

    uri: str
    paths: tuple[str, ...] = ()
    _future: Future[Found] = field(default_factory=Future, compare=False, repr=False)

    def __post_init__(self) -> None:
        # A daemon: a machine that is switched off must not keep the program from ending.
        threading.Thread(target=self._ask, daemon=True).start()

    @property
    def found(self) -> Found:
        """What was found. Waits for it, for a limited time."""
        return self._future.result()

    def _ask(self) -> None:
        try:
            self._future.set_result(self._look())
        except BaseException as error:  # noqa: BLE001 - raised again in every thread that waits for it
            self._future.set_exception(error)

    def _look(self) -> Found:
        way = jump(self.uri)
        if way is None:
            reached = _resolved(urlsplit(self.uri).hostname or "")
            return Found(problem=_NO_SHELL, asked=False, reached=reached)
        try:
            session = Session(Jump(*way).argv("exec sh"))
        except SwarmError as error:
            return Found(problem=error.message)
        try:
            reached = _resolved(_named(Jump(*way)))  # while ssh connects
            answer = _converse(session, self.paths)
        except Malformed as error:
            return Found(problem=f"{error}", reached=reached)
        finally:
            session.kill()
        return Found(answer, reached=reached)


def ask(uri: str, hosts: Iterable[Host] = ()) -> Remote | None:
    """Ask a remote hypervisor's machine about the folders of `hosts`; None if the hypervisor is this machine.

    Asked before libvirt is connected to, it takes no time of its own: both log in side by side.
    """
    return Remote(uri, paths_of(hosts)) if remote(uri) else None


def machine(uri: str) -> str:
    """Return the name of a remote hypervisor's machine, as the URI gives it."""
    return urlsplit(uri).hostname or uri


def paths_of(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Return the folders on the hypervisor that host files name: shares, and those of disks."""
    found: list[str] = []
    for host in hosts:
        found += [str(host.vm.virtiofs.source)] if host.vm.virtiofs else []
        found.append(str(host.vm.disk_path.parent))
    return tuple(dict.fromkeys(path for path in found if path.startswith("/")))


def _converse(session: Session, paths: tuple[str, ...]) -> Answer:
    """Send the script and return the answer. Raise Malformed with the reason if there is none."""
    session.send(script(paths), _LIMITS, merged=False)
    lines: list[bytes] = []
    while True:
        more, errors = session.read()
        if not more and not errors:
            break
        lines += more
    if session.code is None:
        ending = session.ending()
        said = ending.messages.strip().splitlines()
        raise Malformed(
            ending.limit or (said[-1][:_WORDS] if said else f"ssh ended with exit code {ending.code}")
        )
    return parse(lines, paths)


def _named(way: Jump) -> str:
    """Return the name or address to which ssh's configuration leads, which may give the destination as an alias."""
    try:
        done = subprocess.run(
            way.argv("-G"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("hostname ")]
    return found[0] if found else ""


def _resolved(name: str) -> frozenset[IPv4Address] | None:
    """Return the IPv4 addresses of a name, or None if they are not known."""
    try:
        given = ipaddress.ip_address(name)
    except ValueError:
        try:
            entries = socket.getaddrinfo(name, None, socket.AF_INET) if name else []
        except (OSError, UnicodeError):
            return None
        return frozenset(IPv4Address(str(entry[4][0])) for entry in entries) or None
    return frozenset([given]) if isinstance(given, IPv4Address) else frozenset()
