"""Kinds of steps for what runs: systemd units, the firewall, mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.probe import Step, as_user
from swarm.guest.kinds.basic import edit
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["firewall", "firewall_default", "firewall_rule", "linger", "mount", "unit"]

_STAMPS = "/var/lib/swarm/loaded"  # checksums of the files that a running service was started with


def unit(
    name: str,
    *,
    config: Sequence[str] = (),
    user: str | None = None,
    after: tuple[str, ...] = (),
    reacts_to: tuple[str, ...] = (),
    reload: str | None = None,
) -> Step:
    """Return a step for a systemd unit (of `user`, if given) that is enabled, running, and running with its present `config` files.

    Whether a running service knows its files is remembered as their checksum: a restart that was missed, because a run was cut
    short between the file and the restart, is made good by the next run. `reload` is shell that does it without a restart.
    """
    stamp = f"{_STAMPS}/{f'{user}@' if user else ''}{name}"
    scope = "systemctl --user" if user else "systemctl"
    files = quote(*config) if config else ""
    known = {"user_units" if user else "units": (name,), "files": tuple(config)}
    probe = f"unit_fact {quote(name)}\n" + (f"loaded_fact {quote(stamp, *config)}\n" if config else "")

    def apply(fact: str) -> str | None:
        now = _states(fact)
        script = _unit_script(now, scope, quote(name), reload)
        if not script and now.get("Loaded") == now.get("Files"):
            return None
        # A service that dies of its configuration does so in its first second.
        active = f"{scope} is-active {quote(name)}"
        checked = f"wait_for 90 unit_settled {active} || :\nsleep 1\n{active} >/dev/null || {{ {_journal(name, user)}; exit 1; }}"
        text = "\n".join([*script, checked])
        text = as_user(user, text) if user else text
        if config:
            text += f"\nmkdir -p {_STAMPS}\nfiles_sum {files} | put {quote(stamp)} 644 root root"
        return text

    def shown(fact: str) -> str | None:
        now = _states(fact)
        if now.get("LoadState") != "loaded":
            return None
        old = ", with old settings" if now.get("Loaded") != now.get("Files") else ""
        return f"{now.get('UnitFileState') or 'not enabled'}, {now.get('ActiveState')}{old}"

    owner = f"user unit {user}/" if user else "unit "
    return Step(
        f"{owner}{name}",
        probe,
        "enabled, active",
        apply,
        after,
        reacts_to,
        shown=shown,
        known=known,
        reader=user or "",
    )


def _states(fact: str) -> dict[str, str]:
    return {key: value for key, _, value in (row.partition("=") for row in fact.splitlines())}


def _unit_script(now: dict[str, str], scope: str, name: str, reload: str | None) -> list[str]:
    """The commands that a unit in the state `now` is missing."""
    script = []
    if now.get("NeedDaemonReload") != "no" or now.get("LoadState") != "loaded":
        script.append(f"{scope} daemon-reload")
    if now.get("UnitFileState") not in {"enabled", "static", "alias", "generated", "indirect"}:
        script.append(f"{scope} enable {name}")
    if now.get("ActiveState") != "active":
        script.append(f"{scope} reset-failed {name} 2>/dev/null || :\n{scope} start {name}")
    elif now.get("Loaded") != now.get("Files") or now.get("NeedDaemonReload") == "yes":
        script.append(reload or f"{scope} restart {name}")
    return script


def _journal(name: str, user: str | None) -> str:
    return f"journalctl --no-pager -q -n 8 {'--user-unit' if user else '--unit'} {quote(name)} || :"


def linger(name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a user manager that runs from boot on, without a login."""
    # A manager that was started before the package dbus-user-session came has no bus until it is started anew.
    script = f"""
uid=$(id -u {quote(name)})
loginctl enable-linger {quote(name)}
wait_for 5 test -S "/run/user/$uid/bus" || systemctl restart "user@$uid.service"
wait_for 90 test -S "/run/user/$uid/bus" || {{ echo "no bus in /run/user/$uid: is the package dbus-user-session installed?"; exit 1; }}
"""
    return Step(
        f"linger for {name}",
        f"linger_fact {quote(name)}",
        "yes",
        lambda fact: None if fact == "yes" else script,
        after,
        shown=lambda fact: fact,
        known={"users": (name,)},
    )


def firewall_default(direction: str, policy: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for UFW's default policy for incoming, outgoing or routed packets."""
    key = {"incoming": "INPUT", "outgoing": "OUTPUT", "routed": "FORWARD"}[direction]
    stored = {"deny": "DROP", "allow": "ACCEPT"}[policy]
    return Step(
        f"firewall default {direction}",
        f"sed -n 's/^DEFAULT_{key}_POLICY=\"*\\([A-Z]*\\)\"*/\\1/p' /etc/default/ufw\n:",
        policy,
        lambda fact: None if fact == stored else f"ufw default {policy} {direction}",
        after,
        shown={"DROP": "deny", "ACCEPT": "allow", "REJECT": "reject"}.get,
    )


def firewall_rule(port: int, protocol: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a UFW rule that allows a port from everywhere, in IPv4 and IPv6."""
    return Step(
        f"firewall rule {port}/{protocol}",
        f"ufw_rule_fact {port} {protocol}",
        "allowed",
        lambda fact: None if fact == "allowed" else f"ufw allow {port}/{protocol}",
        after,
        shown=lambda fact: None if fact == "none" else fact,
    )


def firewall(
    config: Sequence[str], *, chains: Sequence[str], after: tuple[str, ...], reacts_to: tuple[str, ...]
) -> Step:
    """Return a step for UFW itself: enabled at boot, and the kernel really enforces what the files say.

    `chains` are rules, as `iptables -S` prints them, that must be in the kernel.
    """
    stamp = f"{_STAMPS}/ufw"
    files = quote(*config)
    probe = f"firewall_fact {quote('-P INPUT DROP', *chains)}\nunit_fact ufw.service\nloaded_fact {quote(stamp, *config)}"

    def found(fact: str) -> list[str]:
        now = _states(fact)
        loaded = "loaded" if now.get("Loaded") == now.get("Files") else "stale"
        return [
            *fact.partition("\n")[0].split(),
            loaded,
            "boot" if now.get("UnitFileState") == "enabled" else "manual",
        ]

    def apply(fact: str) -> str | None:
        if found(fact) == ["enabled", "enforced", "loaded", "boot"]:
            return None
        return (
            f"ufw --force enable\nufw reload\nsystemctl enable --quiet ufw.service\nmkdir -p {_STAMPS}\n"
            f"files_sum {files} | put {quote(stamp)} 644 root root"
        )

    return Step(
        "firewall",
        probe,
        "enabled, enforced by the kernel",
        apply,
        after,
        reacts_to,
        shown=lambda fact: ", ".join(found(fact)),
        known={"files": tuple(config), "units": ("ufw.service",)},
    )


def mount(
    spec: str, target: str, kind: str, options: str, *, after: tuple[str, ...] = ()
) -> tuple[Step, Step]:
    """Return the two steps of a mount: its line in /etc/fstab, and being mounted now."""
    entry = f"{_fstab(spec)} {_fstab(target)} {kind} {options} 0 0"

    def change(content: str) -> str:
        lines = content.splitlines()
        same = [
            index
            for index, old in enumerate(lines)
            if not old.lstrip().startswith("#") and old.split()[1:2] == [_fstab(target)]
        ]
        if len(same) == 1 and lines[same[0]].split() == entry.split():
            return content
        kept = [old for index, old in enumerate(lines) if index not in same]
        return "\n".join([*kept, entry]) + "\n"

    line = edit("/etc/fstab", f"fstab {target}", change, f"{spec} ({kind}, {options})", after=after)

    def apply(fact: str) -> str | None:
        if fact.split() == [spec, kind]:
            return None
        away = "" if fact == "none" else f"umount -- {quote(target)}\n"
        return f"systemctl daemon-reload\nmkdir -p -- {quote(target)}\n{away}mount -- {quote(target)}"

    now = Step(
        f"mount {target}",
        f"findmnt -n -o SOURCE,FSTYPE --mountpoint {quote(target)} || echo none",
        f"{spec} ({kind})",
        apply,
        (line.subject,),
        shown=lambda fact: None if fact == "none" else " ".join(fact.split()),
    )
    return line, now


def _fstab(word: str) -> str:
    """A word of fstab; blanks in it are written in octal (fstab(5))."""
    return word.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
