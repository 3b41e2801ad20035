"""What a person must do about a host, each with the command to type. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from swarm.fleet.status import FOREIGN, FULL, SPOOLED
from swarm.text import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.errors import SwarmError
    from swarm.fleet.status import Status

__all__ = ["Action", "actions", "failed"]

_COUNTED = re.compile(r"[0-9]+ to change")  # a refusal may begin with the host's name, and that with a digit


@dataclass(frozen=True)
class Action:
    """What is wrong with a host, and the command or the advice that helps."""

    host: str
    what: str
    command: str

    def to_json(self) -> dict[str, str]:
        """Return the action as plain data."""
        return asdict(self)


def actions(status: Status) -> list[Action]:
    """Return what a person must do about a host: one action for each red cell of its row."""
    found = (_vm, _ssh, _inside, _backups, _timers)
    return [Action(status.host, what, command) for each in found for what, command in each(status)]


def failed(host: str, error: SwarmError) -> Action:
    """Return the action for a host about which nothing could be found out."""
    return Action(host, error.message.splitlines()[0], error.hint or "./inv doctor")


def _vm(status: Status) -> Iterator[tuple[str, str]]:
    inv = _inv(status)
    if status.vm == "crashed":
        yield "the VM has crashed", inv("start")
    elif status.vm == "paused":
        yield "the VM is paused, as when the hypervisor's disk is full", inv("start")
    if not status.drifted:
        return
    if status.drift == "waits for a restart":
        yield "changes wait for a restart of the VM", inv("provision", "--restart")
    elif _COUNTED.match(status.drift):
        yield f"the VM differs from its host file: {status.drift}", inv("provision", "--plan")
    else:
        yield f"the VM can't be brought to its host file: {status.drift}", inv("plan")


def _ssh(status: Status) -> Iterator[tuple[str, str]]:
    inv = _inv(status)
    silent = ("the VM runs, but the guest does not answer", inv("console"))
    if status.vm == FOREIGN:
        silent = ("the machine does not answer", "the console of the engine that made it")
    advice = {
        "no pinned key": ("no host key is pinned, so nothing is asked of the guest", inv("provision")),
        "other host key": ("the host key does not match the pinned key", f"{inv('pin')} if you changed it"),
        "login refused": ("the guest refuses the login", inv("ssh")),
        "no answer": silent,
    }
    if status.ssh in advice:
        yield advice[status.ssh]


def _inside(status: Status) -> Iterator[tuple[str, str]]:
    inv, inside = _inv(status), status.inside
    if inside.openclaw and inside.gateway != "ready":  # without a word, what answers is no gateway
        words = "is not ready" if inside.gateway == "not ready" else "does not answer"
        yield f"OpenClaw's gateway {words}", inv("install")
    if inside.ratio is not None and inside.ratio >= FULL:
        yield f"the disk is {inside.ratio:.0%} full", f"{inv('ssh')} -- du -xhd2 / (or raise vm.disk_size)"
    if inside.spool and inside.spool[1] >= SPOOLED:
        yield f"{amount(inside.spool[1])} of agentmon events wait in the guest", inv("hook.test")


def _backups(status: Status) -> Iterator[tuple[str, str]]:
    inv, own = _inv(status), status.archives
    if own.trouble:
        yield own.trouble.message, own.trouble.hint or "./inv doctor"
        return
    if own.backup.startswith("✗"):
        words = own.backup.removeprefix("✗ ")
        sentences = {
            "none succeeded": "no backup has succeeded",
            "interrupted": "the last backup was interrupted",
        }
        told = f"the last backup is from {words.removeprefix('last one ')}"
        yield (
            sentences.get(words, f"the last backup {words}" if words.startswith("failed") else told),
            inv("backup"),
        )
    if own.drill.startswith("✗"):
        yield f"the last drill {own.drill.removeprefix('✗ ')}", inv("drill")


def _timers(status: Status) -> Iterator[tuple[str, str]]:
    for each in status.timers or ():
        if each.installed and each.failed:
            log = f"journalctl --user -e -u {each.unit.removesuffix('.timer')}.service"
            yield f"the last {each.kind} by its timer failed ({each.result})", log
        elif each.installed and not each.active:
            drill = " --drill" if each.kind == "drill" else ""
            yield f"the timer of the {each.kind} is stopped", f"{_inv(status)('timers.install')}{drill}"


class _inv:  # noqa: N801 - used as a function
    """Makes commands for one host."""

    def __init__(self, status: Status) -> None:
        self._host = status.host

    def __call__(self, verb: str, *options: str) -> str:
        return " ".join(["./inv", verb, "--host", self._host, *options])
