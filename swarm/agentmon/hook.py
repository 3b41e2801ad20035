"""The steps for the hook in a guest: its files, its settings, OpenClaw's configuration and the restart."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.script import as_user
from swarm.guest.engine.step import Step
from swarm.guest.kinds.files import directory, user_file
from swarm.guest.kinds.parts import ABSENT, STAMPS, body, by_user, content_put, head
from swarm.paths import ROOT
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarm.inventory import AgentmonSettings, InstallSettings

__all__ = [
    "LOADED",
    "READS_TAP",
    "SUBJECT",
    "gateway",
    "hook_files",
    "restored",
    "steps",
    "variables",
    "with_variables",
]

LOADED = "loaded"  # the fact of a gateway that was started with the present files, and proved it
SUBJECT = "gateway with agentmon"
_UNIT = "openclaw-gateway.service"
_STAMP = f"{STAMPS}/agentmon"
# Below XDG_RUNTIME_DIR, so that it does not survive a reboot. It holds the receiver's port: hooks/agentmon/lib/tap.ts.
_TAP = "agentmon-receiver"
READS_TAP = "lib/tap.ts"  # the file of the hook that heeds it; earlier versions have none
# Earlier versions led events away by a drop-in of the unit, whose variables win over those in .env.
_DROP_IN = f"systemd/user/{_UNIT}.d/90-agentmon-receiver.conf"
_READY = 600  # seconds until the gateway is ready: as long as `inv install` waits
_MANAGED = ("INGEST_URL", "VM_NAME", "BATCH", "CONTENT", "TOKEN")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")  # what a header may carry


def hook_files() -> dict[str, str]:
    """Return the files of hooks/agentmon by their path in it. Hidden ones and node_modules are left out."""
    folder = ROOT / "hooks" / "agentmon"
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [
        name for name in names if not any(part[0] == "." or part == "node_modules" for part in name.parts)
    ]
    if not kept:
        raise Refused(f"the hook's files are missing: {folder} is empty", "git checkout hooks/agentmon")
    return {str(name): (folder / name).read_text(encoding="utf-8") for name in kept}


def variables(settings: AgentmonSettings, host: str) -> dict[str, str]:
    """Return the hook's variables. Raise Refused if the token's variable is not set here or can't be sent."""
    found = {
        "AGENTMON_INGEST_URL": settings.url,
        "AGENTMON_VM_NAME": settings.vm_name or host,
        "AGENTMON_BATCH": settings.batch,
    }
    if settings.content:
        found["AGENTMON_CONTENT"] = "1"
    if settings.token_env:
        token = os.environ.get(settings.token_env, "")
        if not token:
            raise Refused(
                f"agentmon.token_env: the environment variable {settings.token_env} is not set",
                f"export {settings.token_env}=TOKEN",
            )
        if not _TOKEN.fullmatch(token) or "'" in token:
            raise Refused(
                f"agentmon.token_env: {settings.token_env} holds spaces, quotes or other characters that can't be sent"
            )
        found["AGENTMON_TOKEN"] = token
    return found


def with_variables(content: str, wanted: Mapping[str, str]) -> str:
    """Return the text of an .env file with these variables. Managed ones that are not wanted are removed."""
    left, lines = dict(wanted), []
    # Not splitlines(), which also splits at U+2028 and the like: a value of another tool may hold one.
    for line in content.removesuffix("\n").split("\n") if content else ():
        match = re.match(r"\s*(?:export\s+)?(AGENTMON_\w+)\s*=", line)
        name = match[1] if match else ""
        if name in left:
            lines.append(_assignment(name, left.pop(name)))
        elif name not in wanted and name.removeprefix("AGENTMON_") not in _MANAGED:
            lines.append(line)
    return "".join(f"{line}\n" for line in [*lines, *(_assignment(*pair) for pair in left.items())])


def _assignment(name: str, value: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9._~:/?&=%\[\],;+-]+", value)
    return f"{name}={value}" if plain else f"{name}='{value}'"


def steps(
    openclaw: InstallSettings, wanted: Mapping[str, str], files: Mapping[str, str], tap: int
) -> list[Step]:
    """Return every step of `inv hook.deploy`. `tap` is the guest's port that leads to the receiver of the proof."""
    user, folder = openclaw.user, f"{openclaw.config_dir}/hooks/agentmon"
    folders = [f"{openclaw.config_dir}/hooks", folder]
    folders += sorted({f"{folder}/{name.rpartition('/')[0]}" for name in files if "/" in name})
    made: list[Step] = []
    for each in folders:
        above = tuple(step.subject for step in made if each.startswith(step.subject.removeprefix("folder ")))
        made.append(directory(each, mode="755", owner=user, after=above))
    there = tuple(step.subject for step in made)
    copies = [
        user_file(user, f"{folder}/{name}", text, mode="644", after=there) for name, text in files.items()
    ]
    extra = _leftovers(user, folder, files, there)
    environment = _environment(user, f"{openclaw.config_dir}/.env", wanted)
    present = tuple(step.subject for step in (*copies, extra, environment))
    config = _config(openclaw, f"{folder}/plugin", present)
    return [
        *made,
        *copies,
        extra,
        environment,
        config,
        gateway(openclaw, files, tap, after=(*present, config.subject)),
    ]


def _leftovers(user: str, folder: str, files: Mapping[str, str], after: tuple[str, ...]) -> Step:
    """Files of an earlier version of the hook, and links."""

    def apply(fact: str) -> str | None:
        found = [name for name in fact.splitlines() if name not in files and ".." not in name.split("/")]
        return "\n".join(f"rm -f -- {quote(f'{folder}/{name}')}" for name in found) or None

    step = Step(
        subject=f"leftovers in {folder}",
        probe=f"[ ! -d {quote(folder)} ] || find {quote(folder)} -mindepth 1 ! -type d -printf '%P\\n'",
        wanted="none",
        apply=apply,
        after=after,
        shown=lambda fact: f"{len(fact.splitlines())} files",
    )
    return by_user(user, step)


def _environment(user: str, path: str, wanted: Mapping[str, str]) -> Step:
    """The variables in .env, which holds others' secrets too: nothing of it is ever shown."""

    def apply(fact: str) -> str | None:
        before = body(fact)
        new = with_variables(before, wanted)
        private = head(fact).startswith(f"file 600 {user} ")
        return None if private and new == before else content_put(path, new, "600", user, user)

    # The engine takes one newline off the end of a fact. This file's last newline matters, so the probe adds one more.
    step = Step(
        subject=f"variables in {path}",
        probe=f"file_fact {quote(path)} none; echo",
        wanted=f"{', '.join(wanted)}; mode 600",
        apply=apply,
        refuse=lambda fact: f"{path} is not a file" if head(fact).startswith("other") else None,
        shown=lambda fact: None if head(fact) == ABSENT else "other values or another mode",
        secrets=tuple(value for name, value in wanted.items() if name == "AGENTMON_TOKEN"),
        known={"files": (path,)},
    )
    return by_user(user, step)


def _config(openclaw: InstallSettings, plugin: str, after: tuple[str, ...]) -> Step:
    """The hook enabled, the plugin linked and allowed to see conversations, by OpenClaw's own commands."""
    patch = {
        "hooks": {"internal": {"enabled": True, "entries": {"agentmon": {"enabled": True}}}},
        "plugins": {"entries": {"agentmon": {"enabled": True, "hooks": {"allowConversationAccess": True}}}},
    }
    query = (
        "[.hooks.internal.enabled, .hooks.internal.entries.agentmon.enabled, .plugins.entries.agentmon.enabled, "
        ".plugins.entries.agentmon.hooks.allowConversationAccess, "
        '((.plugins.load.paths // []) | index($plugin) != null)] | if all(. == true) then "done" else "due" end'
    )
    path = f"{openclaw.config_dir}/openclaw.json"
    # `plugins install` needs the entry to be absent or valid, so it comes before the entry's own settings.
    script = (
        f"openclaw plugins install --link {quote(plugin)} --force --accept-capabilities\n"
        f"printf '%s' {quote(json.dumps(patch))} | openclaw config patch --stdin"
    )
    return Step(
        subject="hook and plugin agentmon in openclaw.json",
        probe=f"jq -r --arg plugin {quote(plugin)} {quote(query)} {quote(path)} 2>/dev/null || echo due",
        wanted="enabled, with access to conversations",
        apply=lambda fact: None if fact == "done" else f"rm -f {_STAMP}\n{as_user(openclaw.user, script)}",
        after=after,
        shown=lambda fact: "not enabled" if fact == "due" else fact,
        reader=openclaw.user,
        unread="due",
    )


def gateway(
    openclaw: InstallSettings,
    files: Mapping[str, str],
    tap: int,
    *,
    after: tuple[str, ...] = (),
    force: bool = False,
) -> Step:
    """Return the step that restarts the gateway with its events led to the port `tap`, so that they can be seen.

    It is due if the gateway has not proved that it loaded the present files, or always with `force`. restored() ends
    that state.
    """
    tapped = f"tapped {tap}"
    script = f'rm -f "$XDG_RUNTIME_DIR/{_DROP_IN}"\nprintf %s {tap} >"$XDG_RUNTIME_DIR/{_TAP}"\n{_RESTART}'
    work = f"rm -f {_STAMP}\n{as_user(openclaw.user, script)}\n{_ready(openclaw)}"

    def apply(fact: str) -> str | None:
        return None if fact == tapped or (fact == LOADED and not force) else work

    return Step(
        subject=SUBJECT,
        probe=_probe(openclaw, files),
        wanted="restarted, and an event of each half arrives",
        apply=apply,
        after=after,
        reacts_to=after,
        shown=lambda fact: fact,
    )


def restored(openclaw: InstallSettings, files: Mapping[str, str], *, proved: bool) -> Step:
    """Return the step that leads the events to their own URL again, and records that the gateway `proved` itself.

    The hook notices it within a second, so the gateway is not restarted.
    """
    work = as_user(openclaw.user, f'rm -f "$XDG_RUNTIME_DIR/{_TAP}"')
    record = f"mkdir -p {STAMPS}\nfiles_sum {_watched(openclaw, files)} | put {_STAMP} 644 root root"

    def apply(fact: str) -> str | None:
        parts = [work] if fact.startswith("tapped") else []
        parts += [record] if proved and fact != LOADED else []
        return "\n".join(parts) or None

    return Step(
        subject="gateway with its own endpoint",
        probe=_probe(openclaw, files),
        wanted="events go to their own URL",
        apply=apply,
        shown=lambda fact: fact,
    )


_RESTART = f"systemctl --user daemon-reload\nsystemctl --user restart {_UNIT}"


def _ready(openclaw: InstallSettings) -> str:
    url = f"http://127.0.0.1:{openclaw.port}/readyz"
    return render("guest/gateway-wait.sh.j2", url=url, seconds=_READY, unit=_UNIT, user=openclaw.user)


def _watched(openclaw: InstallSettings, files: Mapping[str, str]) -> str:
    folder = f"{openclaw.config_dir}/hooks/agentmon"
    return quote(*(f"{folder}/{name}" for name in files), f"{openclaw.config_dir}/.env")


def _probe(openclaw: InstallSettings, files: Mapping[str, str]) -> str:
    """Shell whose fact is "tapped PORT", "loaded" or "outdated"."""
    return f"""
uid=$(id -u {quote(openclaw.user)} 2>/dev/null) || uid=none
tap=/run/user/$uid/{_TAP}
recorded=""
[ ! -e {_STAMP} ] || read -r recorded <{_STAMP}
if [ -e /run/user/$uid/{_DROP_IN} ]; then
  echo outdated
elif [ -f "$tap" ]; then
  echo "tapped $(head -c 16 "$tap")"
elif [ "$recorded" = "$(files_sum {_watched(openclaw, files)})" ]; then
  echo {LOADED}
else
  echo outdated
fi"""
