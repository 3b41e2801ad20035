"""A machine that swarm did not make (hypervisor.uri: none): check that it answers, and pin its host key.

swarm can't know the key beforehand, so it never accepts one unseen: either the host file contains its fingerprint, or
the user compares it with what the machine's console shows, and confirms it.
"""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm import access, ssh
from swarm.deadline import Deadline
from swarm.errors import Refused, Unfit, Unreachable
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile
from swarm.ssh.guest import Guest
from swarm.templates import render
from swarm.text import visible
from swarm.vm.pin import fingerprint

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.inventory import Host, Machine

__all__ = ["pin", "provision", "user_data"]

_ANSWER = 20  # seconds that the machine has to show its key
_LOGIN = 60.0  # seconds that it has to accept our login
_LONGEST = 4096  # bytes of ssh-keyscan's output; a line has about a hundred
_CONSOLE = "on the machine's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


@dataclass(frozen=True)
class _Seen:
    """The pinned key and the machine's own, each as "type key". The own one is read only if it matters."""

    pinned: str | None
    own: str | None = None


def provision(host: Host, talk: Talk, *, plan_only: bool = False, limit: float = _LOGIN) -> Plan:
    """Pin the machine's host key if it is not pinned yet, and check that we can log in. Return the change.

    All waiting for it together takes at most `limit` seconds: up to 40 for its key, up to 60 for the login.
    Raise Refused if the key is not confirmed, Unreachable if the machine does not answer or refuses the login.
    """
    machine = _machine(host)
    left = limit

    def look() -> _Seen:
        nonlocal left
        pinned = ssh.pinned(host.known_hosts)
        if pinned and machine.fingerprint in {None, fingerprint(pinned)}:
            return _Seen(pinned)
        scan = Deadline(left)
        own = _own(host.name, machine, left)
        left = scan.remaining
        return _Seen(pinned, own)

    def apply(plan: Plan, seen: _Seen) -> Applied[_Seen]:
        assert seen.own  # noqa: S101 - there is no plan without it
        _confirm_key(host.name, machine, seen.own, talk)
        ssh.pin(host.known_hosts, (host.name, machine.address), seen.own)
        return Applied(plan)

    plan = reconcile(look, lambda seen: _difference(host, seen), apply, talk, plan_only=plan_only)
    if not (plan_only and plan):
        _login(host, talk, min(left, _LOGIN))
    return plan


def pin(host: Host, talk: Talk) -> bool:
    """Pin the machine's current host key in place of the old one, once it is confirmed. Return True if changed.

    Raise as provision() does.
    """
    machine = _machine(host)
    pinned, own = ssh.pinned(host.known_hosts), _own(host.name, machine)
    if pinned == own:
        talk.done(f"{host.name}: this key is already pinned, nothing to do")
        return False
    talk.say(f"~ host key: {fingerprint(pinned) if pinned else 'none'} → {fingerprint(own)}")
    _confirm_key(host.name, machine, own, talk)
    ssh.pin(host.known_hosts, (host.name, machine.address), own)
    talk.done(f"{host.name}: pinned in {host.known_hosts}")
    return True


def user_data(host: Host) -> str:
    """Return cloud-init's user data that prepares a machine for swarm: who may log in, and how. It holds no secret."""
    return render("seed/foreign.j2", hostname=host.hostname, authorized_keys=access.authorized_keys(host))


def _machine(host: Host) -> Machine:
    if host.machine is None:
        raise Refused(f"{host.name} has a VM of its own, and no section machine")
    return host.machine


def _difference(host: Host, seen: _Seen) -> Plan:
    if seen.own is None or seen.own == seen.pinned:
        return Plan(host.name)
    before = fingerprint(seen.pinned) if seen.pinned else None
    subject, after = "pinned host key", fingerprint(seen.own)
    change = Change("update" if seen.pinned else "create", subject, before, after, key="pin")
    return Plan(host.name, (change,))


def _own(name: str, machine: Machine, limit: float = 2 * _ANSWER) -> str:
    """Return the ed25519 host key that the machine shows within `limit` seconds, as "type key"."""
    command = [
        "ssh-keyscan",
        "-T",
        str(min(_ANSWER, math.ceil(limit))),
        "-t",
        "ed25519",
        "-p",
        str(machine.port),
        "--",
        machine.address,
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=min(2 * _ANSWER, limit),
        )
    except FileNotFoundError:
        raise Unfit("ssh-keyscan is missing", "install the package openssh-client") from None
    except subprocess.TimeoutExpired:
        raise _silent(name, machine, "no answer") from None
    for line in done.stdout[:_LONGEST].decode("utf-8", "replace").splitlines():
        _, _, key = line.partition(" ")  # what comes first is the address
        if key.startswith("ssh-ed25519 ") and fingerprint(key) != "unreadable":
            return " ".join(key.split()[:2])
    said = done.stderr[:_LONGEST].decode("utf-8", "replace").strip().splitlines()
    raise _silent(name, machine, visible(said[-1], lines=False) if said else "it shows no ed25519 key")


def _silent(name: str, machine: Machine, why: str) -> Unreachable:
    return Unreachable(
        f"{name}: {machine.address} port {machine.port} shows no host key ({why})",
        "check machine.address and machine.port, the machine's firewall, and that its SSH server runs",
    )


def _confirm_key(name: str, machine: Machine, key: str, talk: Talk) -> None:
    """Return if the host file or the user confirms the key. Raise Refused otherwise."""
    shown = fingerprint(key)
    if machine.fingerprint == shown:
        return
    if machine.fingerprint:
        raise Refused(
            f"{name} shows the host key {shown}, and its host file expects {machine.fingerprint}",
            f"find out why; if the machine was made again, correct machine.fingerprint ({_CONSOLE})",
        )
    talk.say(f"{name} at {machine.address} shows the ed25519 host key {shown}")
    answer = talk.answer(f"Is that its key? Compare {_CONSOLE}. Type yes, or the fingerprint")
    if answer.lower() in {"y", "yes"} or answer == shown:
        return
    raise Refused(
        f"{name}: the host key was not pinned because it was not confirmed",
        f"write machine.fingerprint: {shown} into the host file if it is the right one ({_CONSOLE})",
    )


def _login(host: Host, talk: Talk, limit: float) -> None:
    guest = Guest(access.reach(host), host.name)
    with talk.step(f"log into {host.name}", silent=True):
        guest.renew()
        user = guest.check("id -un", "logging in", timeout=limit).strip()
    if user != "root":
        raise Unreachable(f"{host.name}: the login is {visible(user, lines=False)[:40]}, not root")
    talk.done(f"{host.name} answers at {host.address}")
