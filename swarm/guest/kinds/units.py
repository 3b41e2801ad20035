"""Steps for systemd: units of the system and of users, and user managers without a login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.script import as_user
from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import STAMPS, fields
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["linger", "unit"]

# Values of UnitFileState for a unit that starts at boot, or that cannot be enabled (systemctl(1), is-enabled).
_ENABLED = {"enabled", "static", "alias", "generated", "indirect"}


def unit(
    name: str,
    *,
    config: Sequence[str] = (),
    user: str | None = None,
    after: tuple[str, ...] = (),
    reacts_to: tuple[str, ...] = (),
    reload: str | None = None,
) -> Step:
    """Return a step for a systemd unit (of `user`, if given): enabled, active, and with its present `config` files.

    The checksum of the files that the service was started with is recorded on the guest. So the next run makes up for a
    restart that was missed because a run ended between the file and the restart. `reload` is shell to use in place of a
    restart.
    """
    stamp = f"{STAMPS}/{f'{user}@' if user else ''}{name}"
    scope = "systemctl --user" if user else "systemctl"
    probe = f"unit_fact {quote(name)}\n" + (f"loaded_fact {quote(stamp, *config)}\n" if config else "")
    # A service that fails because of its configuration does so within a second.
    active = f"{scope} is-active {quote(name)}"
    explain = f"{{ {_journal(name, user)}; exit 1; }}"
    settle = f"wait_for 90 unit_settled {active} || :\nsleep 1\n{active} >/dev/null || {explain}"

    def apply(fact: str) -> str | None:
        missing = _missing(fields(fact, "="), scope, quote(name), reload)
        if not missing:
            return None
        script = "\n".join([*missing, settle])
        script = as_user(user, script) if user else script
        if config:
            script += f"\nmkdir -p {STAMPS}\nfiles_sum {quote(*config)} | put {quote(stamp)} 644 root root"
        return script

    return Step(
        subject=f"user unit {user}/{name}" if user else f"unit {name}",
        probe=probe,
        wanted="enabled, active",
        apply=apply,
        after=after,
        reacts_to=reacts_to,
        shown=_shown,
        known={"user_units" if user else "units": (name,), "files": tuple(config)},
        reader=user or "",
    )


def _shown(fact: str) -> str | None:
    now = fields(fact, "=")
    if now.get("LoadState") != "loaded":
        return None
    old = "" if _current(now) else ", with old settings"
    return f"{now.get('UnitFileState') or 'not enabled'}, {now.get('ActiveState')}{old}"


def _current(now: dict[str, str]) -> bool:
    """Whether the service was started with its present files."""
    return now.get("Loaded") == now.get("Files")


def _missing(now: dict[str, str], scope: str, name: str, reload: str | None) -> list[str]:
    """The commands that bring a unit from the state `now` to the wanted one."""
    script = []
    # systemd does not see a drop-in in a folder that was not there at its last reload, so that it asks for none.
    if now.get("NeedDaemonReload") != "no" or now.get("LoadState") != "loaded" or not _current(now):
        script.append(f"{scope} daemon-reload")
    if now.get("UnitFileState") not in _ENABLED:
        script.append(f"{scope} enable {name}")
    if now.get("ActiveState") != "active":
        script.append(f"{scope} reset-failed {name} 2>/dev/null || :\n{scope} start {name}")
    elif not _current(now) or now.get("NeedDaemonReload") == "yes":
        script.append(reload or f"{scope} restart {name}")
    return script


def _journal(name: str, user: str | None) -> str:
    return f"journalctl --no-pager -q -n 8 {'--user-unit' if user else '--unit'} {quote(name)} || :"


def linger(name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a user manager that runs from boot on, without a login."""
    # A manager that was started before the package dbus-user-session was installed has no bus until it is restarted.
    bus = "no bus in /run/user/$uid: is the package dbus-user-session installed?"
    script = f"""
uid=$(id -u {quote(name)})
loginctl enable-linger {quote(name)}
wait_for 5 test -S "/run/user/$uid/bus" || systemctl restart "user@$uid.service"
wait_for 90 test -S "/run/user/$uid/bus" || {{ echo "{bus}"; exit 1; }}
"""
    return Step(
        subject=f"linger for {name}",
        probe=f"linger_fact {quote(name)}",
        wanted="yes",
        apply=lambda fact: None if fact == "yes" else script,
        after=after,
        shown=lambda fact: fact,
        known={"users": (name,)},
    )
