"""Where a libvirt URI's hypervisor is. Uses the standard library only: the inventory imports it."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["EMBEDDED", "NONE", "jump", "remote"]

EMBEDDED = "embedded"  # swarm's own private libvirt; not a URI of libvirt's
NONE = "none"  # a machine that swarm did not create; not a URI either

_SSH = ("ssh", "libssh", "libssh2")  # https://libvirt.org/uri.html, "Transport configuration"


def remote(uri: str) -> bool:
    """Return True if the hypervisor is another machine, so that its files and devices are not this machine's.

    A URI with a host name is remote, whatever its transport: without one, libvirt takes TLS.
    """
    return uri != EMBEDDED and bool(urlsplit(uri).hostname)


def jump(uri: str) -> str | None:
    """Return `ssh://USER@HOST:PORT` if libvirt reaches the hypervisor over SSH, or None."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return f"ssh://{parts.netloc}" if transport in _SSH else None
