"""Which of libvirt's addresses swarm accepts, and when two of them mean the same hypervisor."""

from __future__ import annotations

from difflib import get_close_matches
from urllib.parse import parse_qs, urlsplit

__all__ = ["EMBEDDED", "check", "far", "place"]

EMBEDDED = "embedded"

Wrong = tuple[str, str | None]  # a sentence and a hint

_LIKE = "like qemu:///system, qemu+ssh://root@box/system or embedded"
_LOCAL = ("", "unix")
_SSH = ("ssh", "libssh", "libssh2")  # https://libvirt.org/uri.html, "Transport configuration"
_TRUST = {"no_verify": ("", "0"), "known_hosts_verify": ("normal",)}


def check(uri: str) -> Wrong | None:
    """Return what is wrong with a hypervisor's address, as a sentence and a hint, or None.

    Accepted are 'embedded'; qemu with no transport, unix, ssh, libssh, libssh2 or tls; and test, libvirt's own double
    for tests. Refused are addresses that libvirt cannot open, that send everything in the clear (tcp), that switch off
    the check of the other side's key, or that hold a password.
    """
    if uri == EMBEDDED:
        return None
    if not uri.isprintable() or " " in uri:
        return "expected libvirt's address of a hypervisor without spaces", _LIKE
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return "expected libvirt's address of a hypervisor, with a right machine and port", _LIKE
    driver, _, transport = parts.scheme.partition("+")
    if "://" not in uri or driver not in {"qemu", "test"}:
        near = get_close_matches(uri, [EMBEDDED, "qemu:///system", "qemu:///session"], n=1, cutoff=0.7)
        return (
            "expected 'embedded' or libvirt's address of a QEMU hypervisor",
            f"did you mean {near[0]}?" if near else _LIKE,
        )
    return _check_place(driver, transport, parts.path, parts.hostname, parts.username) or _check_trust(
        transport, parts.password, parts.query
    )


def _check_place(driver: str, transport: str, path: str, host: str | None, user: str | None) -> Wrong | None:
    if driver == "test":
        right = not transport and not host and len(path) > 1
        return None if right else ("expected test:///default, or test:///PATH of a description", None)
    goes_far = transport in {*_SSH, "tls", "tcp"}
    rules: tuple[tuple[bool, str, str | None], ...] = (
        (
            not goes_far and transport not in _LOCAL,
            f"libvirt knows no transport {transport!r}",
            "known are ssh, libssh, libssh2, tls and unix",
        ),
        (
            path not in {"/system", "/session"},
            f"expected an address that ends in /system or /session, found {path!r}",
            _LIKE,
        ),
        (
            goes_far and not host,
            f"the transport {transport} needs a machine to go to",
            f"like qemu+{transport}://root@box{path}",
        ),
        (
            transport == "unix" and bool(host),
            "a unix socket is on this machine, so the address cannot name another",
            f"remove {host}, or use ssh",
        ),
        (
            f"{host}".startswith("-") or f"{user}".startswith("-"),
            "ssh would take a name that begins with a hyphen for an option",
            None,
        ),
    )
    return next(((message, hint) for broken, message, hint in rules if broken), None)


def _check_trust(transport: str, password: str | None, query: str) -> Wrong | None:
    if transport == "tcp":
        return "the transport tcp sends everything, disks included, in the clear", "use ssh or tls"
    if password is not None:
        return "a password does not belong in a host file", "log in with an SSH key"
    for key, values in parse_qs(query, keep_blank_values=True).items():
        if key in _TRUST and not set(values) <= set(_TRUST[key]):
            return (
                f"{key} would switch off the check that the other side is who it should be",
                f"remove {key}",
            )
    return None


def far(uri: str) -> bool:
    """Return whether the hypervisor is on another machine, so that its folders are not ours."""
    return uri != EMBEDDED and bool(urlsplit(uri).hostname)


def place(uri: str) -> str:
    """Return a text that is the same for two addresses of one hypervisor: driver, machine, path and socket.

    Which user logs in by which transport makes no difference to system; a session belongs to one user.
    """
    if uri == EMBEDDED:
        return uri
    parts = urlsplit(uri)
    driver = parts.scheme.partition("+")[0]
    user = f"{parts.username or ''}@" if parts.path == "/session" else ""
    socket = parse_qs(parts.query).get("socket", [""])[0]
    return f"{driver}://{user}{parts.hostname or ''}{parts.path}{socket and f'?socket={socket}'}"
