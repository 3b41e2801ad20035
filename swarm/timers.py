"""Timers of the control machine: user units of systemd that back hosts up, drill them, check LiteLLM, and find drift.

The units of hosts are templates, so that one pair of files serves all: `openclaw-backup@zap.timer` starts
`openclaw-backup@zap.service`, which runs `inv backup --host zap`. LiteLLM has one `litellm-health-check.timer`, and
`openclaw-plan.timer` runs `inv plan --host all`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.errors import CommandFailed
from swarm.files import write_atomically
from swarm.paths import ROOT, expanded
from swarm.units import escaped, linger, properties, quoted, require_manager, systemctl, text_of, unit_dir
from swarm.units import render as render_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "DRIFT",
    "HEALTH",
    "LITELLM",
    "Timer",
    "drift",
    "enabled",
    "install",
    "machine_drift",
    "next_and_last",
    "remove",
    "render",
    "status",
    "variables",
]

KINDS = ("backup", "drill")  # of hosts
HEALTH, DRIFT = "health", "plan"  # the timers that are no host's
LITELLM, ALL = "LiteLLM", "all"  # what stands in the host's place for them
_STEMS = {HEALTH: "litellm-health-check", DRIFT: "openclaw-plan"}  # of their units' names
_SINGLE = {HEALTH: LITELLM, DRIFT: ALL}
_NEVER = (0, 2**64 - 1)  # microseconds that stand for no time
# What the units pass on. Credentials stay in their files.
_VARIABLES = re.compile(
    r"PATH|XDG_(STATE|CACHE|CONFIG)_HOME|SWARM_(HOSTS|MIRRORS|BACKUPS|LITELLM|STATE|CACHE|PYTHON|AGE_IDENTITY)"
    r"|DOCKER_(HOST|CONTEXT)|COMPOSE_(FILE|PROJECT_NAME)|DEDUP"
    r"|AWS_(PROFILE|CONFIG_FILE|SHARED_CREDENTIALS_FILE|CA_BUNDLE|REGION|DEFAULT_REGION)"
    r"|(HTTPS?|NO)_PROXY|(https?|no)_proxy"
)
_DIRECTORIES = {f"SWARM_{name}" for name in ("HOSTS", "MIRRORS", "BACKUPS", "LITELLM", "STATE", "CACHE")}
_FILES = {"SWARM_AGE_IDENTITY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"}


@dataclass(frozen=True)
class Timer:
    """One timer of one host. Times are None if there is none, `result` is systemd's word for the last run."""

    host: str
    kind: str
    installed: bool
    active: bool = False
    next: datetime | None = None
    last: datetime | None = None
    result: str = ""

    @property
    def unit(self) -> str:
        """The name of the timer's unit."""
        return _unit(self.kind, self.host)

    @property
    def failed(self) -> bool:
        """Whether the last run failed."""
        return self.result not in {"", "success", "running"}

    def to_json(self) -> dict[str, Any]:
        """Return the timer as plain data, with times in UTC."""
        times = {name: time and time.isoformat() for name, time in (("next", self.next), ("last", self.last))}
        return {**vars(self), "unit": self.unit, **times}


def _unit(kind: str, host: str, suffix: str = "timer") -> str:
    return _file(kind, suffix).replace("@.", f"@{host}.")


def _file(kind: str, suffix: str) -> str:
    """Return the name of the file that all units of this kind share."""
    return f"{_STEMS[kind]}.{suffix}" if kind in _STEMS else f"openclaw-{kind}@.{suffix}"


# ── rendering ────────────────────────────────────────────────────────────────────────────────────────────────────────


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the units need, with absolute paths. No system package is installed at night.

    Raise Unfit for the path of a file in a home directory that does not exist.
    """
    found = {name: value for name, value in environment.items() if value and _VARIABLES.fullmatch(name)}
    found |= {name: str(Path(found[name]).absolute()) for name in _DIRECTORIES & found.keys()}
    found |= {name: str(expanded(Path(found[name])).absolute()) for name in _FILES & found.keys()}
    return {**{name: found[name] for name in found if not _is_login(name, found[name])}, "SWARM_NO_APT": "1"}


def _is_login(name: str, value: str) -> bool:
    """Whether this is the address of a proxy with a login. Everybody on this machine can read the units."""
    return name.lower().endswith("_proxy") and "@" in value


def _withheld(environment: Mapping[str, str]) -> list[str]:
    return [
        f"{name} has a login, so the timers do without it; write it to a file in ~/.config/environment.d "
        "that only you can read"
        for name, value in sorted(environment.items())
        if _VARIABLES.fullmatch(name) and _is_login(name, value)
    ]


def render(kinds: Sequence[str], environment: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """Return the text of each unit file, by its name. Raise UsageError for a path that no unit file can hold."""
    values = {
        "directory": escaped(str(root)),
        "program": quoted(str(root / "inv")).replace("$", "$$"),
        "environment": [quoted(f"{name}={value}") for name, value in sorted(environment.items())],
    }
    names = [_file(kind, suffix) for kind in kinds for suffix in ("service", "timer")]
    return {name: render_unit(name, values) for name in names}


# ── parsing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def next_and_last(text: str) -> dict[str, tuple[datetime | None, datetime | None]]:
    """Return the next and the last run of each timer from the output of `systemctl list-timers --output=json`."""
    try:
        return {
            str(row["unit"]): (_time(row.get("next")), _time(row.get("last")))
            for row in json.loads(text or "[]")
        }
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise CommandFailed("systemctl list-timers printed malformed JSON") from None


def _time(microseconds: int | None) -> datetime | None:
    if microseconds is None or microseconds in _NEVER:
        return None
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC)


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def install(
    hosts: Iterable[str], *, drill: bool = False, single: Sequence[str] = (), plan_only: bool = False
) -> tuple[list[str], list[str]]:
    """Install and start the timers of `hosts`, and the `single` ones: HEALTH, DRIFT. Return changes and notes.

    Raise Unfit without systemd or without a user's manager, CommandFailed if systemd refuses.
    """
    pairs = _pairs(hosts, KINDS if drill else KINDS[:1], single)
    done, notes = linger(plan_only=plan_only)
    notes += _withheld(os.environ)
    folder = unit_dir()
    files = render(list(dict.fromkeys(kind for kind, _ in pairs)), variables(os.environ))
    stale = [name for name, text in files.items() if text_of(folder / name) != text]
    done += [f"write {folder / name}" for name in stale]
    if plan_only:
        timers = [_unit(*pair) for pair in pairs]
        return done + [f"enable {name}" for name in timers if not _enabled(name)], notes
    require_manager()
    if stale:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:
            write_atomically(folder / name, files[name])
    outdated = _outdated(pairs)
    if stale or outdated:
        systemctl("daemon-reload")
    for timer in _states(pairs):
        if not (timer.active and _enabled(timer.unit)):
            systemctl("enable", "--now", timer.unit)
            done.append(f"enable {timer.unit}")
        elif timer.unit in outdated or _file(timer.kind, "timer") in stale:
            systemctl("restart", timer.unit)
    return done, notes


def _outdated(pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Return the units whose files have changed since systemd read them, as after a run that was killed then."""
    names = [_unit(*pair, suffix) for pair in pairs for suffix in ("timer", "service")]
    shown = properties(systemctl("show", "--property=Id,NeedDaemonReload", "--", *names))
    return {name for name, each in shown.items() if each.get("NeedDaemonReload") == "yes"}


def drift(host: str) -> list[tuple[str, str]]:
    """Return what is wrong with the installed timers of `host`: unit and reason. A host may have none."""
    return _wrong(_pairs([host], KINDS, ()))


def machine_drift() -> list[tuple[str, str]] | None:
    """Return the same for the timers that are no host's, or None if this machine has none of them."""
    pairs = _pairs((), (), tuple(_SINGLE))
    return _wrong(pairs) if any(_enabled(_unit(*pair)) for pair in pairs) else None


def _wrong(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [pair for pair in pairs if _enabled(_unit(*pair))]
    if not pairs:
        return []
    folder, files = unit_dir(), render([kind for kind, _ in pairs], {})
    found = [
        (name, "differs from what timers.install writes")
        for name, text in files.items()
        if _apart_from_variables(text_of(folder / name) or "") != _apart_from_variables(text)
    ]
    require_manager()
    for timer in _states(pairs):
        if timer.installed and not timer.active:
            found.append((timer.unit, "not active"))
        if timer.installed and timer.failed and not _has_reported(timer):
            found.append((timer.unit, f"its last run failed: {timer.result}"))
    return found


def _has_reported(timer: Timer) -> bool:
    """Whether the last run of the plan did its work. What it found may be in order by now, and is looked at anew."""
    return timer.kind == DRIFT and timer.result in {"exit code 1", "exit code 2"}


def _apart_from_variables(text: str) -> list[str]:
    """The lines of a unit that do not depend on the environment of whoever asks, such as its PATH."""
    return [line for line in text.splitlines() if not line.startswith("Environment=")]


def remove(hosts: Iterable[str], *, single: Sequence[str] = (), plan_only: bool = False) -> list[str]:
    """Stop and disable the timers of `hosts`, and the `single` ones. Delete the unit files that are no longer used.

    Return what was changed.
    """
    folder = unit_dir()
    pairs = _pairs(hosts, KINDS, single)
    timers = [_unit(*pair) for pair in pairs if _enabled(_unit(*pair))]
    unused = [
        path
        for kind in dict.fromkeys(kind for kind, _ in pairs)
        if not set(_used(kind)) - set(timers)
        for suffix in ("service", "timer")
        if (path := folder / _file(kind, suffix)).is_file()
    ]
    done = [f"disable {name}" for name in timers] + [f"delete {path}" for path in unused]
    if plan_only or not done:
        return done
    require_manager()
    for name in timers:
        systemctl("disable", "--now", name)
    for path in unused:
        path.unlink()
    if unused:
        systemctl("daemon-reload")
    return done


def status(hosts: Iterable[str], *, single: Sequence[str] = ()) -> list[Timer]:
    """Return the timers of `hosts`, and the `single` ones. Raise Unfit without a user's manager."""
    require_manager()
    return _states(_pairs(hosts, KINDS, single))


def enabled() -> list[tuple[str, str]]:
    """Return (kind, host) of each enabled timer of a host, whether or not the host has a file."""
    found = []
    for kind in KINDS:
        before, after = _unit(kind, "*").split("*")
        found += [(kind, name.removeprefix(before).removesuffix(after)) for name in _used(kind)]
    return found


def _pairs(hosts: Iterable[str], kinds: Sequence[str], single: Sequence[str]) -> list[tuple[str, str]]:
    return [(kind, host) for host in hosts for kind in kinds] + [(kind, _SINGLE[kind]) for kind in single]


def _states(pairs: Sequence[tuple[str, str]]) -> list[Timer]:
    if not pairs:
        return []
    names = [_unit(kind, host, suffix) for kind, host in pairs for suffix in ("timer", "service")]
    wanted = "--property=Id,LoadState,ActiveState,UnitFileState,Result,ExecMainStatus,ExecMainExitTimestampMonotonic"
    shown = properties(systemctl("show", wanted, "--", *names))
    times = next_and_last(
        systemctl("list-timers", "--all", "--output=json", "openclaw-*.timer", "litellm-*.timer")
    )
    return [_timer(kind, host, shown, times) for kind, host in pairs]


def _timer(
    kind: str,
    host: str,
    shown: Mapping[str, Mapping[str, str]],
    times: Mapping[str, tuple[datetime | None, datetime | None]],
) -> Timer:
    name = _unit(kind, host)
    timer, service = shown.get(name, {}), shown.get(_unit(kind, host, "service"), {})
    following, last = times.get(name, (None, None))
    state = service.get("ActiveState", "")
    result = service.get("Result", "") if last else ""
    if state in {"activating", "active"}:
        result = "running"
    elif result == "exit-code":
        result = f"exit code {service.get('ExecMainStatus')}"
    return Timer(
        host, kind, timer.get("LoadState") == "loaded" and _enabled(name),
        timer.get("ActiveState") == "active", following, last, result,
    )  # fmt: skip


def _used(kind: str) -> list[str]:
    """Return the enabled timers of this kind: systemd has a link for each."""
    return sorted(path.name for path in _wants().glob(_unit(kind, "*")))


def _enabled(name: str) -> bool:
    return (_wants() / name).is_symlink()


def _wants() -> Path:
    return unit_dir() / "timers.target.wants"
