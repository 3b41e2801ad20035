"""Where a libvirt URI's hypervisor is. Uses the standard library only: the inventory imports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

__all__ = ["ANSWER", "EMBEDDED", "NONE", "Way", "jump", "remote", "session"]

ANSWER = 20.0  # seconds; a connection over SSH takes about one, and TCP itself would wait for two minutes
EMBEDDED = "embedded"  # swarm's own private libvirt; not a URI of libvirt's
NONE = "none"  # a machine that swarm did not create; not a URI either

_SSH = ("ssh", "libssh", "libssh2")  # https://libvirt.org/uri.html, "Transport configuration"


def remote(uri: str) -> bool:
    """Return True if the hypervisor is another machine, so that its files and devices are not this machine's.

    A URI with a host name is remote, whatever its transport: without one, libvirt takes TLS.
    """
    return uri != EMBEDDED and bool(urlsplit(uri).hostname)


def session(uri: str) -> bool:
    """Return True if the URI leads to a user's own libvirt, whose VMs run as that user.

    Root has none: libvirt connects root to the system's, also for /session.
    """
    parts = urlsplit(uri)
    root = parts.username == "root" if parts.hostname else os.geteuid() == 0
    return parts.path == "/session" and not root


class Way(NamedTuple):
    """How libvirt reaches a hypervisor over SSH: `ssh://USER@HOST:PORT`, and the files that its URI names."""

    destination: str
    keyfile: Path | None = None
    known_hosts: Path | None = None


def jump(uri: str) -> Way | None:
    """Return the way to the hypervisor if libvirt reaches it over SSH, or None."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[2] not in _SSH:
        return None
    # Unlike parse_qs(), libvirt takes a plus sign as it is.
    pairs = (parameter.partition("=") for parameter in parts.query.split("&"))
    given = {unquote(key): Path(unquote(value)) for key, _, value in pairs if value}
    return Way(f"ssh://{parts.netloc}", given.get("keyfile"), given.get("known_hosts"))
