"""Waiting for a guest: rungs from "the domain runs" to "the share is mounted", all under one deadline.

No rung sleeps blindly, each says what it waits for, and a failure names the rung and shows the guest's own words.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm import ssh
from swarm.errors import SwarmError, Unreachable, VerificationFailed
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from fabric import Connection

    from swarm.console import Meter, Talk
    from swarm.deadline import Deadline

__all__ = ["Climb", "Rung", "climb"]

_LOOK = 0.25  # seconds between looks at something that is not there yet
# Seconds that a login may be refused while cloud-init still writes the keys; sshd of some images starts before it is done.
_LOGIN_PATIENCE = 90.0
_HANDSHAKE = 30.0  # seconds for each stage of a login; an emulated guest on a busy machine needs ten
_REACH = 2.0  # seconds for the TCP connection before it
_TAIL = 6  # lines of the console that a failure shows


@dataclass(frozen=True)
class Rung:
    """One step of the way: its name, and how many seconds after the start it was reached."""

    name: str
    after: float


class Climb:
    """One wait. Given the guest's address, what asks the hypervisor for the domain's state, and what reads the console's end."""

    def __init__(
        self,
        target: ssh.Target,
        state: Callable[[], str],
        console: Callable[[], list[str]],
        share: tuple[str, str] | None,
    ) -> None:
        self.target = target
        self.state = state
        self.console = console
        self.share = share
        self.connection: Connection | None = None
        self._answer: ssh.KeyRefused | ssh.LoginRefused | None = None

    def running(self, meter: Meter) -> bool:
        """The domain runs."""
        meter.note("waiting for the hypervisor")
        return self.state() == "running"

    def port(self, meter: Meter) -> bool:
        """The guest's SSH server answers.

        What it answers with is the next rungs' matter: one handshake serves all three, since an emulated guest spends
        seconds on each.
        """
        if lines := self.console():
            meter.note(lines[-1][:60])
        try:
            self.connection = ssh.connect(self.target, _HANDSHAKE, reach=_REACH)
        except ssh.PortClosed:
            return False
        except (ssh.KeyRefused, ssh.LoginRefused) as error:
            self._answer = error
        return True

    def key(self, meter: Meter) -> bool:
        """The guest shows the pinned host key. Raise KeyRefused, which ends the climb at once, for another one."""
        meter.note("checking the host key")
        if isinstance(self._answer, ssh.KeyRefused):
            raise self._answer
        return True  # or there would have been neither a login nor a refusal

    def login(self, meter: Meter) -> bool:
        """The guest lets us in."""
        meter.note(f"logging in as {self.target.user}")
        if self.connection is None and self._answer is not None:
            self._answer = None  # the refusal that the port's rung met counts as the first try
            return False
        try:
            self.connection = self.connection or ssh.connect(self.target, _HANDSHAKE, reach=_REACH)
        except (ssh.PortClosed, ssh.LoginRefused):
            return False
        return True

    def cloud_init(self, meter: Meter) -> bool:
        """cloud-init is through, without errors. Raise VerificationFailed with its own words otherwise."""
        answer = self._ask(
            "cat /run/cloud-init/result.json 2>/dev/null || { echo; cat /run/cloud-init/status.json 2>/dev/null; }"
        )
        if answer is None:
            return False
        head, _, rest = answer.partition("\n")
        if head.strip() and (result := _json(answer)):
            if errors := result.get("v1", {}).get("errors"):
                raise VerificationFailed(
                    f"cloud-init in {self.target.name} reports: {errors[0]}",
                    f"./inv ssh --host {self.target.name} -- cloud-init status --long",
                )
            return True
        meter.note(f"cloud-init: {_json(rest).get('v1', {}).get('stage') or 'starting'}")
        return False

    def mounted(self, meter: Meter) -> bool:
        """The shared folder is mounted."""
        assert self.share is not None  # noqa: S101 - the rung is on the ladder only with a share
        meter.note(f"waiting for {self.share[1]}")
        return (
            self._ask(quote("findmnt", "--noheadings", "--output", "FSTYPE", "--mountpoint", self.share[1]))
            == "virtiofs\n"
        )

    def rungs(self) -> list[tuple[str, Callable[[Meter], bool]]]:
        """Return the ladder."""
        ladder: list[tuple[str, Callable[[Meter], bool]]] = [
            ("domain running", self.running),
            ("SSH port open", self.port),
            ("pinned host key shown", self.key),
            ("login", self.login),
            ("cloud-init done", self.cloud_init),
        ]
        return [*ladder, ("share mounted", self.mounted)] if self.share else ladder

    def close(self) -> None:
        """Close the connection, if one was opened."""
        if self.connection:
            self.connection.close()
            self.connection = None

    def _ask(self, command: str) -> str | None:
        """A command's output; None if the connection broke, which the next look opens anew."""
        try:
            if self.connection is None:
                self.connection = ssh.connect(self.target, _HANDSHAKE, reach=_REACH)
            return str(self.connection.run(command, hide=True, warn=True, in_stream=False, timeout=60).stdout)
        except ssh.KeyRefused:
            raise
        except Exception:  # noqa: BLE001 - whatever broke the connection, the remedy is a new one, and the deadline ends it
            self.close()
            return None


def climb(way: Climb, deadline: Deadline, talk: Talk) -> list[Rung]:
    """Climb the ladder and return the rungs with their times. Raise Unreachable or VerificationFailed, naming the rung."""
    reached: list[Rung] = []
    try:
        for name, look in way.rungs():
            begun = time.monotonic()
            with talk.step(name) as meter:
                while not look(meter):
                    _give_up_or_wait(way, name, begun, deadline)
            reached.append(Rung(name, deadline.elapsed))
    except SwarmError as error:
        raise type(error)(_with_console(way, error.message), error.hint) from None
    finally:
        way.close()
    return reached


def _give_up_or_wait(way: Climb, name: str, begun: float, deadline: Deadline) -> None:
    state = way.state()
    if state not in {"running", "paused"} and name != "domain running":
        raise Unreachable(
            f"{way.target.name}: waiting for {name!r} ended, since the VM is {state}",
            f"./inv console --host {way.target.name} shows what it said",
        )
    if name == "login" and time.monotonic() - begun > _LOGIN_PATIENCE:
        raise ssh.LoginRefused(
            f"{way.target.name}: the guest refuses the login as {way.target.user}",
            "none of your private keys fits openclaw.ssh_keys; load the right one (ssh-add), or correct the host file and provision anew",
        )
    if not deadline.pause(_LOOK):
        hints = {
            "domain running": "the hypervisor does not start it: ./inv doctor",
            "SSH port open": "a slow machine needs more time (--timeout SECONDS); the same command goes on where this one stopped",
            "cloud-init done": f"./inv ssh --host {way.target.name} -- cloud-init status --long",
            "share mounted": f"./inv ssh --host {way.target.name} -- journalctl -b -u '*.mount'",
        }
        raise Unreachable(
            f"{way.target.name}: {name!r} was not reached within {deadline.limit:.0f} s",
            hints.get(name, hints["SSH port open"]),
        )


def _with_console(way: Climb, message: str) -> str:
    lines = way.console()[-_TAIL:]
    return message + (
        "\n  the console's last lines:" + "".join(f"\n    {line}" for line in lines) if lines else ""
    )


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
