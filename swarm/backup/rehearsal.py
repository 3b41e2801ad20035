"""What a drill does in its guest: prepare it, prove that it is cut off, restore, compare, and start the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm import access
from swarm.backup.restore import Target, restore
from swarm.backup.swap import Gateway
from swarm.console import Talk
from swarm.deadline import Deadline
from swarm.errors import VerificationFailed
from swarm.paths import ROOT
from swarm.text import quote, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.backup.recover import Origin
    from swarm.inventory import Host
    from swarm.ssh.guest import Guest

__all__ = ["Check", "isolation", "prepare", "reach", "restored", "started", "targets"]

_SHOWN = 5  # problems that a check tells
_LONG = 3600.0  # seconds for reading large databases under emulation
_INSTALL = 1800.0  # seconds for one package under emulation
# Resolvers that answer on TCP everywhere, over both protocols.
_OUTSIDE = (("1.1.1.1", 443), ("8.8.8.8", 53), ("9.9.9.9", 53), ("2606:4700:4700::1111", 443))
_SSH = 22
_ROUND = 60.0  # seconds after which the gateway is started again
_ROUNDS = 3  # rounds that a live gateway has to become ready


@dataclass(frozen=True)
class Check:
    """One thing that a drill has looked at."""

    name: str
    ok: bool
    text: str


def targets(original: Host) -> list[tuple[str, int]]:
    """Return what an agent that woke up twice could reach: outside addresses, and the original guest."""
    return [*_OUTSIDE, (original.address, original.machine.port if original.machine else _SSH)]


def prepare(guest: Guest, host: Host, talk: Talk, *, files_only: bool) -> None:
    """Install OpenClaw, or with `files_only` just what a restore needs. No state and no secret is there yet."""
    if files_only:
        user = quote(host.openclaw.user)
        script = (
            f"id -u {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {user}\n"
            "command -v rsync >/dev/null || { apt-get -q update && apt-get -qy install rsync; }"
        )
        guest.check(script, "preparing the drill's guest", timeout=_INSTALL)
        return
    from swarm.guest.install.steps import install

    # Neither the initial configuration nor a second node in the tailnet: both may hold secrets.
    changes = {
        "ssh_keys": tuple(access.authorized_keys(host)),
        "config": None,
        "tailscale_enabled": False,
    }
    install(guest, host.openclaw.model_copy(update=changes), talk)


def reach(
    guest: Guest, host: Host, wanted: Sequence[tuple[str, int]], *, gateway: str = ""
) -> dict[str, Any]:
    """Let the guest try to connect to each target, with a `gateway` also over a default route through it."""
    return _ask(guest, host, {"action": "reach", "targets": wanted, "gateway": gateway})


def isolation(host: Host, before: dict[str, Any], after: dict[str, Any]) -> Check:
    """Return whether the guest is cut off: it has no default route, and no target answers."""
    was, answered, route = (
        list(map(str, before.get("answered", []))),
        list(map(str, after.get("answered", []))),
        str(after.get("route", "")),
    )
    if answered:
        return Check(
            "isolation", ok=False, text=visible(f"{', '.join(answered)} can be reached", lines=False)
        )
    if route:
        return Check("isolation", ok=False, text=visible(f"there is a route out: {route}", lines=False))
    text = f"in the network {host.hypervisor.network}, no address outside answers"
    if was:
        text += f" ({', '.join(was)} did before)"
    return Check("isolation", ok=True, text=visible(text, lines=False))


def restored(guest: Guest, original: Host, host: Host, origin: Origin, talk: Talk) -> list[Check]:
    """Restore the tree, then compare every file and every database in the guest with the manifest."""
    settings = host.openclaw
    guest.check(_named(original.hostname), "setting the host name")
    Gateway(guest, host.name, settings.user).stop()
    target = Target(guest, host.name, settings.user, settings.config_dir, settings.port, service=False)
    done = restore(target, origin.tree, origin.manifest, original.backup, talk)
    with talk.step("compare every file once more"):
        quiet = Talk(talk.screen, talk.host, quiet=True)
        left = restore(target, origin.tree, origin.manifest, original.backup, quiet, plan_only=True).changes
    problems = [
        *done.problems,
        *(f"{path}: missing" for path in left.create),
        *(f"{path}: differs" for path in left.update),
        *(f"{path}: not in the archive" for path in left.delete),
    ]
    files = sum(1 for entry in origin.manifest.entries if entry.kind in {"file", "hard"})
    return [
        _judged("files", problems, f"{files} files equal the manifest"),
        _databases(guest, host, origin),
    ]


def _named(hostname: str) -> str:
    """Return what gives the guest the original's name, in case the state depends on it."""
    return f"hostname {quote(hostname)} && printf '127.0.1.1 %s\\n' {quote(hostname)} >>/etc/hosts"


def _databases(guest: Guest, host: Host, origin: Origin) -> Check:
    known = {path: dict(tables) for path, tables in origin.manifest.databases.items()}
    order = {"action": "databases", "state": host.openclaw.config_dir, "databases": known}
    problems = _ask(guest, host, order).get("problems", ["malformed answer"])
    return _judged(
        "databases", list(map(str, problems)), f"{len(known)} databases are sound, with all their rows"
    )


def started(guest: Guest, host: Host, talk: Talk, limit: float) -> list[Check]:
    """Validate the configuration and start the gateway. Offline, a gateway that lives is enough."""
    settings = host.openclaw
    command = f"runuser -l {quote(settings.user)} -c 'openclaw config validate --json'"
    done = guest.run(command, hide=True, warn=True, timeout=limit)
    tail = (
        [] if done.ok else (done.stdout + done.stderr).strip().splitlines()[-_SHOWN:] or ["no reason given"]
    )
    with talk.step("start the gateway"):
        found = _awaited(guest, host, limit)
    return [_judged("configuration", tail, "valid"), _gateway(found)]


def _awaited(guest: Guest, host: Host, limit: float) -> dict[str, Any]:
    """Wait until the gateway is ready, or has been alive for some rounds: offline it may never be ready.

    It is started again each minute, because systemd gives up while the archived lease on the state is still valid.
    """
    deadline, lives = Deadline(limit), 0
    while True:
        Gateway(guest, host.name, host.openclaw.user).start()
        order = {"action": "gateway", "port": host.openclaw.port, "timeout": min(_ROUND, deadline.remaining)}
        found = _ask(guest, host, order)
        lives = lives + 1 if found.get("alive") is True else 0
        if found.get("ready") is True or lives == _ROUNDS or deadline.expired:
            return found


def _gateway(found: dict[str, Any]) -> Check:
    reason = visible(str(found.get("reason", "")), lines=False)[:200]
    if found.get("ready") is True:
        return Check("gateway", ok=True, text="ready")
    if found.get("alive") is True:
        return Check("gateway", ok=True, text=f"it lives, and is not ready offline ({reason})")
    return Check("gateway", ok=False, text=f"it does not answer ({reason})")


def _judged(name: str, problems: Sequence[str], well: str) -> Check:
    if not problems:
        return Check(name, ok=True, text=well)
    more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Check(name, ok=False, text=visible("; ".join(problems[:_SHOWN]), lines=False)[:1000] + more)


def _ask(guest: Guest, host: Host, order: dict[str, Any]) -> dict[str, Any]:
    """Run templates/guest/drill.py in the guest, and return its answer. Raise VerificationFailed for another one."""
    program = (ROOT / "templates" / "guest" / "drill.py").read_text(encoding="utf-8")
    text = f"import json\nORDER = json.loads({json.dumps(order)!r})\n{program}"
    script = f"python3 -I -X utf8 - <<'SWARM_PROGRAM'\n{text}\nSWARM_PROGRAM"
    lines = guest.check(script, f"the drill's {order['action']}", timeout=_LONG).strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise VerificationFailed(f"{host.name}: received a malformed answer from the guest")
    return found
