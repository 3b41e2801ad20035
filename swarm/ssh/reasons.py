"""The errors of connections to guests, and the one table that turns messages of ssh and sudo into them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from swarm.errors import CommandFailed, Unreachable
from swarm.text import clipped

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ConnectionLost",
    "Ending",
    "KeyRefused",
    "LoginRefused",
    "NoAnswer",
    "PortClosed",
    "TooManyKeys",
    "explain",
    "needs_dialer",
    "without_warnings",
]


class NoAnswer(Unreachable):
    """Nothing answers at the address, or not in time."""


class PortClosed(Unreachable):
    """The machine answers, but its SSH server does not."""


class KeyRefused(Unreachable):
    """The guest presents a host key other than the pinned one."""


class LoginRefused(Unreachable):
    """The guest does not accept the login, or does not let the user become root."""


class TooManyKeys(LoginRefused):
    """The guest ended the connection before ssh had offered all of its keys."""


class ConnectionLost(Unreachable):
    """The connection broke while a command was running."""


class Ending(NamedTuple):
    """How a conversation ended early: ssh's exit code and messages, whether the script had started, and the limit.

    `left` is how many seconds the conversation could still have taken.
    """

    code: int
    messages: str
    started: bool
    limit: str = ""
    left: float = math.inf

    @property
    def broken(self) -> bool:
        """Whether ssh itself failed: 255 is its code for that, the others are the signals that kill it."""
        return self.code in {255, -9, -15}


class _Reason(NamedTuple):
    pattern: str
    kind: type[Unreachable]
    message: str
    hint: str | None


# What ssh says when its ProxyCommand, such as jump.sh, has ended before the guest said anything.
_NO_WAY = "Connection closed by UNKNOWN port 65535"

# And of the hypervisor, before that, in the same words as of a guest.
_HYPERVISOR = _Reason(
    "^ssh: |Host key for .* has changed|Host key verification failed|host key is known for"
    r"|Too many authentication failures|Permission denied \(",
    Unreachable,
    "can't log in to the hypervisor, through which this guest is reached: {messages}",
    "log in to it by hand, as hypervisor.uri names it: ssh USER@MACHINE",
)

# The first match counts. {messages} is the whole line that matched.
_REASONS = (
    _Reason(
        "HOST IDENTIFICATION HAS CHANGED|no matching host key type",
        KeyRefused,
        "the host key does not match the pinned key; nothing was sent",
        "if you changed the guest's host key: ./inv pin --host {alias}",
    ),
    _Reason(
        "Host key verification failed|host key is known for",
        KeyRefused,
        "no host key is pinned for this machine; nothing was sent",
        "./inv provision --host {alias} pins it; swarm never accepts a key unseen",
    ),
    _Reason(
        "Too many authentication failures",
        TooManyKeys,
        "login denied: the guest accepted none of the first keys that ssh offered",
        "add the private key for openclaw.ssh_keys to the agent, which then offers it first: ssh-add FILE",
    ),
    _Reason(
        r"Permission denied \(",
        LoginRefused,
        "login denied",
        "load the private key for openclaw.ssh_keys (ssh-add); ssh -v -F {config} {alias} shows which keys are offered",
    ),
    _Reason(
        "sudo:|not in the sudoers file",
        LoginRefused,
        "the login user may not become root: {messages}",
        "log in as root, or give the user a NOPASSWD rule in sudoers",
    ),
    _Reason(
        "Connection refused",
        PortClosed,
        "connection refused: the machine answers, but its SSH server does not",
        "it may still be starting",
    ),
    _Reason(
        r"broker: .*: no answer at ",
        NoAnswer,
        "the VM is not running, and neither is the embedded hypervisor",
        "./inv start --host {alias}",
    ),
    _Reason(
        "Stdio forwarding request failed",
        NoAnswer,
        "no answer: the hypervisor cannot connect to the guest",
        "is the machine running? `./inv status` shows it",
    ),
    _Reason(
        "timed out|No route to host|Network is unreachable|Could not resolve hostname|Name or service not known",
        NoAnswer,
        "no answer: {messages}",
        "is the machine running? `./inv status` shows it",
    ),
    _Reason(
        "[Bb]ad configuration option|no argument after keyword|Bad owner or permissions|extra arguments at end",
        Unreachable,
        "ssh rejects its configuration {config}: {messages}",
        None,
    ),
)


# What sudo says of a host that is not in its own /etc/hosts. It goes on nevertheless.
_WARNING = re.compile(r"^sudo: unable to resolve host .*\n?", re.MULTILINE)


def without_warnings(messages: str) -> str:
    """Return messages of ssh, sudo and others without the warnings that are never the reason of a failure."""
    return _WARNING.sub("", messages)


def needs_dialer(messages: str) -> bool:
    """Whether ssh only says that its ProxyCommand failed, whose own message it discards while it keeps connections."""
    return any(words in messages for words in ("proxy dialer did not pass back a connection", _NO_WAY))


def explain(alias: str, config: Path, ending: Ending) -> Unreachable | CommandFailed:
    """Return the error that says why a conversation with the guest `alias` ended early."""
    ending = ending._replace(messages=without_warnings(ending.messages))
    lines = ending.messages.strip().splitlines()
    last = clipped(lines[-1]) if lines else f"ssh ended with exit code {ending.code}"
    if ending.limit:
        return CommandFailed(
            f"{alias}: {ending.limit}",
            "the connection was closed; check the guest, then run the command again",
        )
    if ending.started:
        return ConnectionLost(
            f"{alias}: the connection broke while a command was running",
            "the step that was running finishes on its own; run the command again to continue",
        )
    for reason in (_HYPERVISOR, *_REASONS) if _NO_WAY in ending.messages else _REASONS:
        # Line by line: a pattern for a whole line would take quadratic time for one without an end.
        if found := next((line for line in lines if re.search(reason.pattern, line)), None):
            message = reason.message.format(messages=clipped(found.strip()), config=config)
            hint = reason.hint.format(alias=alias, config=config) if reason.hint else None
            return reason.kind(f"{alias}: {message}", hint)
    if not ending.broken:
        return CommandFailed(f"{alias}: the guest could not read the script: {last}")
    return NoAnswer(
        f"{alias}: the connection closed before the command started: {last}",
        "the guest may be starting or shutting down",
    )
