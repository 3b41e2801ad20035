"""Waiting for a guest: rungs from "domain running" to "share mounted", all under one deadline.

No rung sleeps blindly, each shows what it waits for, and a failure names the rung and quotes the guest's
console.
"""

from __future__ import annotations

import json
import time
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from swarm.errors import CommandFailed, SwarmError, Unreachable, VerificationFailed
from swarm.ssh.reasons import KeyRefused, LoginRefused, TooManyKeys
from swarm.text import clipped, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Meter, Talk
    from swarm.deadline import Deadline
    from swarm.ssh.guest import Guest

__all__ = ["CloudInit", "Ladder", "Rung", "read_cloud_init", "wait_for_guest"]

_INTERVAL = 0.25  # seconds between two attempts at a rung
# Seconds that a login may be refused while cloud-init still writes the keys: some images start sshd before
# that.
_LOGIN_PATIENCE = 90.0
_STARTING = 5.0  # seconds that a domain may be anything but running after it was started
_HANDSHAKE = 30.0  # seconds for a login; an emulated guest on a busy machine needs ten
_ANSWER = 20.0  # seconds for a command over an open connection; it only reads a small file
_TAIL = 6  # lines of the console that a failure quotes
_NOTE = 60  # characters of a console line that are shown while waiting
_DEAD = "---[ end Kernel panic"  # the last words of a Linux kernel that will not restart
_LONGEST = 65536  # bytes of a file of cloud-init's; they have a few hundred

_ASK_CLOUD_INIT = f"""cd /run/cloud-init 2>/dev/null || exit 0
head -c {_LONGEST} result.json 2>/dev/null || {{ echo; head -c {_LONGEST} status.json 2>/dev/null; }}
"""


@dataclass(frozen=True)
class Rung:
    """A rung that was reached: its name, and how many seconds after the start."""

    name: str
    after: float


class CloudInit(NamedTuple):
    """What cloud-init's files say: whether it has finished, its first error, and its current stage."""

    done: bool
    error: str = ""
    stage: str = ""


def read_cloud_init(answer: str) -> CloudInit:
    """Return cloud-init's state from its result file, or from an empty line and its status file. Accept any text."""
    first, _, status = answer.partition("\n")
    if first.strip():
        result = _table(_json(answer))
        if not result:
            return CloudInit(done=False)  # half written
        errors = _table(result.get("v1")).get("errors")
        error = clipped(str(errors[0])) if isinstance(errors, list) and errors else ""
        return CloudInit(done=True, error=error)
    stage = _table(_table(_json(status)).get("v1")).get("stage")
    return CloudInit(done=False, stage=stage if isinstance(stage, str) else "")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table(data: object) -> dict[str, object]:
    return data if isinstance(data, dict) else {}


@dataclass
class Ladder:
    """One wait for a guest that boots.

    `state` asks the hypervisor for the domain's state, `console` returns the last lines of its serial
    console, and `share` is the tag and the mount point of the shared directory, if there is one. Only the
    `first_boot` waits for cloud-init: later it has nothing to do, and may be disabled or purged. `patience` is for
    how many seconds a login may be refused, `starting` for how many the domain may not run yet.
    """

    guest: Guest
    _: KW_ONLY
    user: str
    state: Callable[[], str]
    console: Callable[[], list[str]]
    share: tuple[str, str] | None
    deadline: Deadline
    first_boot: bool = True
    patience: float = _LOGIN_PATIENCE
    starting: float = _STARTING
    _renewed: bool = field(default=False, init=False)
    _refusal: KeyRefused | LoginRefused | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """The host's name."""
        return self.guest.alias

    def rungs(self) -> list[tuple[str, Callable[[Meter], bool]]]:
        """Return the ladder: each rung's name, and the attempt that says whether it is reached."""
        ladder: list[tuple[str, Callable[[Meter], bool]]] = [
            ("domain running", self.running),
            ("SSH port open", self.port),
            ("pinned host key shown", self.key),
            ("login", self.login),
        ]
        if self.first_boot:
            ladder.append(("cloud-init done", self.cloud_init))
        return [*ladder, ("share mounted", self.mounted)] if self.share else ladder

    def running(self, meter: Meter) -> bool:
        """Return whether the domain runs."""
        meter.note("waiting for the hypervisor")
        return self.state() == "running"

    def port(self, meter: Meter) -> bool:
        """Return whether the guest's SSH server answers.

        Whether it also shows the right key and accepts the login is for the next rungs: one handshake serves
        all three, since an emulated guest spends seconds on each. Raise Unreachable if the guest's kernel has
        crashed for good.
        """
        if lines := self.console():
            if _DEAD in lines[-1]:
                raise Unreachable(
                    f"{self.name}: the guest's kernel has crashed",
                    f"./inv stop --host {self.name} --force, then ./inv start --host {self.name}",
                )
            meter.note(lines[-1][:_NOTE])
        if not self._renewed:
            self._renewed = True
            self.guest.renew()  # a connection from earlier proves nothing about the guest as it is now
        try:
            self._log_in()
        except (KeyRefused, LoginRefused) as error:
            self._refusal = error
        except (CommandFailed, Unreachable):
            return False
        return True

    def key(self, meter: Meter) -> bool:
        """Return True for the pinned host key. Raise KeyRefused, which ends the wait at once, for another one."""
        meter.note("checking the host key")
        if isinstance(self._refusal, KeyRefused):
            raise self._refusal
        return True

    def login(self, meter: Meter) -> bool:
        """Return whether the guest accepts the login. Raise KeyRefused for another host key."""
        meter.note(f"logging in as {self.user}")
        if isinstance(self._refusal, TooManyKeys):
            raise self._refusal  # waiting changes nothing about the keys that are offered
        if self._refusal is not None:
            self._refusal = None  # the refusal that the port's rung met counts as the first attempt
            return False
        try:
            self._log_in()
        except (KeyRefused, TooManyKeys):
            raise
        except LoginRefused:
            meter.note(f"the login as {self.user} is refused so far")
            return False
        except (CommandFailed, Unreachable):
            return False
        return True

    def cloud_init(self, meter: Meter) -> bool:
        """Return whether cloud-init has finished. Raise VerificationFailed with its first error, if it has any."""
        answer = self._ask(_ASK_CLOUD_INIT)
        if answer is None:
            return False
        found = read_cloud_init(answer)
        if found.error:
            raise VerificationFailed(
                f"cloud-init in {self.name} failed: {found.error}",
                f"./inv ssh --host {self.name} -- cloud-init status --long",
            )
        if not found.done:
            meter.note(f"cloud-init: {found.stage or 'starting'}")
        return found.done

    def mounted(self, meter: Meter) -> bool:
        """Return whether the shared directory is mounted."""
        if self.share is None:
            return True
        target = self.share[1]
        meter.note(f"waiting for {target}")
        return (
            self._ask(quote("findmnt", "--noheadings", "--output", "FSTYPE", "--mountpoint", target))
            == "virtiofs\n"
        )

    def _log_in(self) -> None:
        self.guest.run("true", hide=True, warn=True, timeout=self._limit(_HANDSHAKE))

    def _ask(self, command: str) -> str | None:
        """Return a command's output, or None if the connection broke: the next attempt opens it again."""
        try:
            return str(self.guest.run(command, hide=True, warn=True, timeout=self._limit(_ANSWER)).stdout)
        except KeyRefused:
            raise
        except (CommandFailed, Unreachable):
            return None

    def _limit(self, own: float) -> float:
        return max(1.0, min(own, self.deadline.remaining))


def wait_for_guest(ladder: Ladder, talk: Talk) -> list[Rung]:
    """Wait until the guest is ready, and return the rungs. Raise Unreachable or VerificationFailed, naming the rung."""
    reached: list[Rung] = []
    try:
        for name, attempt in ladder.rungs():
            begun = time.monotonic()
            with talk.step(name) as meter:
                while not attempt(meter):
                    _give_up_or_pause(ladder, name, begun)
            reached.append(Rung(name, ladder.deadline.elapsed))
    except SwarmError as error:
        raise type(error)(_with_console(ladder, error.message), error.hint) from None
    return reached


def _give_up_or_pause(ladder: Ladder, rung: str, begun: float) -> None:
    name, state = ladder.name, ladder.state()
    waited = time.monotonic() - begun
    if state not in {"running", "paused"} and (rung != "domain running" or waited > ladder.starting):
        raise Unreachable(
            f"{name}: gave up waiting for {rung!r}: the VM is {state}",
            f"./inv console --host {name} shows its last output",
        )
    if rung == "login" and waited > ladder.patience:
        raise LoginRefused(
            f"{name}: the guest refuses the login as {ladder.user}",
            "load the private key for openclaw.ssh_keys (ssh-add), or correct the host file and provision again",
        )
    if not ladder.deadline.pause(_INTERVAL):
        paused = state == "paused"
        late = f"{name}: {rung!r} was not reached within {ladder.deadline.limit:.0f} s"
        raise Unreachable(f"{late}: the VM is paused" if paused else late, _hint(name, rung, paused=paused))


def _hint(name: str, rung: str, *, paused: bool) -> str:
    if paused:
        return (
            "QEMU pauses a VM when the hypervisor's disk is full: free some space there, "
            f"then ./inv start --host {name} resumes it"
        )
    hints = {
        "domain running": "the hypervisor does not start it: ./inv doctor",
        "cloud-init done": f"./inv ssh --host {name} -- cloud-init status --long",
        "share mounted": f"./inv ssh --host {name} -- journalctl -b -u '*.mount'",
    }
    slow = "a slow machine needs more time (--timeout SECONDS); run the command again to continue"
    return hints.get(rung, slow)


def _with_console(ladder: Ladder, message: str) -> str:
    lines = [clipped(line) for line in ladder.console()[-_TAIL:]]
    return message + (
        "\n  the console's last lines:" + "".join(f"\n    {line}" for line in lines) if lines else ""
    )
