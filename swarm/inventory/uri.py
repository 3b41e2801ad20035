"""Check the libvirt URI of a host file, and tell whether two URIs refer to the same hypervisor."""

from __future__ import annotations

import re
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from swarm.hypervisor.uri import EMBEDDED, NONE, remote, session

__all__ = ["EMBEDDED", "NONE", "check", "place", "remote"]

Wrong = tuple[str, str | None]  # a message and a hint

_EXAMPLES = "use for example qemu:///system, qemu+ssh://root@box/system, embedded or none"
_LOCAL = ("", "unix")
_REMOTE = ("ssh", "libssh", "libssh2", "tls", "tcp")
_USER = re.compile(r"[A-Za-z0-9_.@+-]+")
_MACHINE = re.compile(r"[a-z0-9_.:-]+")  # a name, an IPv4 or an IPv6 address

# The allowed URI parameters and their values. All others of libvirt (https://libvirt.org/uri.html and EXTRACT_URI_ARG_*
# in its remote_driver.c) are refused: `command` and `netcat` run programs, `name` connects to a different hypervisor,
# and `tls_priority` and `no_sanity` weaken TLS.
_PATH = re.compile(r"/[^\0]*")
_PARAMETERS = {
    "keyfile": _PATH,
    "known_hosts": _PATH,
    "known_hosts_verify": re.compile("normal"),
    "mode": re.compile("auto|direct|legacy"),
    "no_tty": re.compile("[01]?"),
    "no_verify": re.compile("0?"),
    "pkipath": _PATH,
    "proxy": re.compile("auto|netcat|native"),
    "socket": _PATH,
    "sshauth": re.compile("[a-z,-]+"),
}
_TRUST = ("known_hosts_verify", "no_verify")


def check(uri: str) -> Wrong | None:
    """Return the problem of a host file's `hypervisor.uri` as a message and a hint, or None if it is valid.

    Accepts 'embedded', 'none', libvirt's test driver, and qemu with no transport, unix, ssh, libssh, libssh2 or tls.
    Refuses URIs that libvirt cannot open, unencrypted connections (tcp), passwords, and parameters that could run a
    program or disable verification of the hypervisor's identity.
    """
    if uri in {EMBEDDED, NONE}:
        return None
    if not uri.isprintable() or " " in uri:
        return "expected a libvirt URI without spaces", _EXAMPLES
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return "expected a libvirt URI with a valid host and port", _EXAMPLES
    driver, _, transport = parts.scheme.partition("+")
    if "://" not in uri or driver not in {"qemu", "test"}:
        near = get_close_matches(uri, [EMBEDDED, NONE, "qemu:///system", "qemu:///session"], n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else _EXAMPLES
        return "expected 'embedded', 'none' or the libvirt URI of a QEMU hypervisor", hint
    return _check_place(driver, transport, parts) or _check_trust(transport, parts)


def _check_place(driver: str, transport: str, parts: SplitResult) -> Wrong | None:
    path, host = parts.path, parts.hostname
    if driver == "test":
        right = not transport and not host and len(path) > 1
        return None if right else ("expected test:///default, or test:///PATH of a configuration file", None)
    over_network = transport in _REMOTE
    rules: tuple[tuple[bool, str, str | None], ...] = (
        (
            not over_network and transport not in _LOCAL,
            f"unknown libvirt transport {transport!r}",
            "use ssh, libssh, libssh2, tls or unix",
        ),
        (
            path not in {"/system", "/session"},
            f"expected a URI that ends in /system or /session, found {path!r}",
            _EXAMPLES,
        ),
        (
            over_network and not host,
            f"the transport {transport} requires a host name",
            f"use for example qemu+{transport}://root@box{path}",
        ),
        (
            transport == "unix" and bool(host),
            "the transport unix is local, so the URI cannot contain a host name",
            f"remove {host}, or use ssh",
        ),
    )
    wrong = next(((message, hint) for broken, message, hint in rules if broken), None)
    return wrong or _check_names(parts)


def _check_names(parts: SplitResult) -> Wrong | None:
    """Check the user and host name, which become arguments of ssh. libvirt decodes %XX in both."""
    for what, value, pattern in (("user", parts.username, _USER), ("host", parts.hostname, _MACHINE)):
        name = unquote(value or "")
        if name.startswith("-"):
            return f"a {what} name cannot start with a hyphen, because ssh would read it as an option", None
        if name and not pattern.fullmatch(name):
            return f"{name!r} is not a valid {what} name", _EXAMPLES
    return None


def _check_trust(transport: str, parts: SplitResult) -> Wrong | None:
    if transport == "tcp":
        return "the transport tcp sends everything unencrypted, including disks", "use ssh or tls"
    if parts.password is not None:
        return "a host file must not contain a password", "log in with an SSH key"
    if parts.fragment:
        return "expected a URI without '#'", _EXAMPLES
    return next(filter(None, map(_check_parameter, parts.query.split("&"))), None)


def _check_parameter(parameter: str) -> Wrong | None:
    """Check one `key=value`. libvirt ignores the case of keys and also splits at ';'. Refuse both."""
    key, _, value = parameter.partition("=")
    key, value = unquote(key), unquote(value)
    if not parameter:
        return None
    pattern = _PARAMETERS.get(key)
    if pattern is None or ";" in parameter:
        return f"the parameter {key!r} is not allowed in a host file", f"use only {', '.join(_PARAMETERS)}"
    if pattern.fullmatch(value) and value.isprintable():
        return None
    if key in _TRUST:
        return f"{key} would disable verification of the hypervisor's identity", f"remove {key}"
    expected = "an absolute path" if pattern is _PATH else f"one of {pattern.pattern.replace('|', ', ')}"
    return f"{key}: expected {expected}, found {value!r}", None


def place(uri: str) -> str:
    """Return an identifier of the hypervisor: driver, host, path and socket. It is equal for URIs of one hypervisor.

    User and transport do not matter for /system. Each user but root has a separate /session.
    """
    if uri == EMBEDDED:
        return uri
    parts = urlsplit(uri)
    driver = parts.scheme.partition("+")[0]
    user, path = "", parts.path
    if session(uri):
        user = f"{parts.username or ''}@"
    elif path == "/session":
        path = "/system"
    socket = parse_qs(parts.query).get("socket", [""])[0]
    return f"{driver}://{user}{parts.hostname or ''}{path}{socket and f'?socket={socket}'}"
