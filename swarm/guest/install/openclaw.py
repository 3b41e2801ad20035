"""The steps for OpenClaw: its account, the program as a release or a git checkout, and openclaw.json."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.script import BUNDLE, as_user, prelude
from swarm.guest.engine.step import Step
from swarm.guest.install.pins import foreign
from swarm.guest.kinds.accounts import authorized_keys, seeded_keys, user
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.edits import user_block
from swarm.guest.kinds.files import directory, seed, user_file
from swarm.guest.kinds.npm import pnpm_global
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarm.inventory.inside import InstallSettings

__all__ = ["PACKAGE", "RECORD", "RELEASE", "account", "first_config", "release", "software", "unknown_here"]

_FOLDER = "/var/lib/swarm"
RECORD = f"{_FOLDER}/openclaw-release"
RELEASE = "OpenClaw release"  # the subject of the step that writes the record
PACKAGE = "pnpm package openclaw"  # and of the one that installs what it names
# Characters. Shorter texts in a configuration are words like "loopback". No API key is that short.
_SHORTEST_KEY = 12
_ONE_QUESTION = Lock()
_PATIENCE = 20  # seconds for npm on this computer; without an answer the guest asks later


def account(settings: InstallSettings, after: tuple[str, ...]) -> list[Step]:
    """Return the steps for the account, its environment, its folders and its SSH keys."""
    name, home = settings.user, settings.home
    who = user(name, home=home, after=after)
    there = (who.subject,)
    authorities = BUNDLE if settings.ca_certificates else ""
    environment = render("guest/environment.j2", home=home, authorities=authorities)
    private = partial(directory, mode="700", owner=name)
    state = private(settings.config_dir, after=there)
    steps = [
        who,
        user_block(name, f"{home}/.bashrc", "environment", render("guest/bashrc.j2"), after=there),
        user_file(name, f"{home}/.config/environment.d/50-swarm.conf", environment, after=there),
        state,
        private(f"{settings.config_dir}/credentials", after=(state.subject,)),
        private(f"{settings.config_dir}/workspace", after=(state.subject,)),
    ]
    return [*steps, *_keys(settings, there)]


def _keys(settings: InstallSettings, there: tuple[str, ...]) -> list[Step]:
    """The steps for the keys that may log in, as the account and as root: those of the host file."""
    if not settings.ssh_keys:
        return []
    steps = []
    for name, home, after in ((settings.user, settings.home, there), ("root", "/root", ())):
        own = authorized_keys(name, home, settings.ssh_keys, after=after)
        steps += [own, seeded_keys(name, home, settings.ssh_keys, after=(own.subject,))]
    return steps


def software(
    settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool, pins: Mapping[str, str] | None = None
) -> list[Step]:
    """Return the steps for the program, as a release or as a checkout. After the last one it is complete.

    `pins` are the checksums of releases that were seen before, by PACKAGE@VERSION.
    """
    if settings.install_mode == "development":
        return _checkout(settings, after, upgrade=upgrade)
    resolved = release(settings, after, upgrade=upgrade, pins=pins)
    return [
        resolved,
        pnpm_global(settings.user, "openclaw", settings.home, RECORD, after=(resolved.subject,)),
    ]


def release(
    settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool, pins: Mapping[str, str] | None = None
) -> Step:
    """Return the step that records in the guest which version to install: the pinned one, or the channel's newest.

    A channel is resolved once. npm's registry is asked again only for an upgrade, another channel or another pin.
    The checksum of the version's archive is recorded too. It is refused if it is not that of `pins`.
    """
    asked = f"openclaw@{settings.version or settings.channel}"
    line = f"version {settings.version}" if settings.version else f"channel {settings.channel}"
    known = f"grep -qxF {quote(line)} {RECORD} && grep -q '^integrity ' {RECORD}"
    answered = "false" if upgrade and not settings.version else known
    script = render(
        "guest/openclaw-release.sh.j2",
        asked=asked,
        source="pinned" if settings.version else line,
        folder=_FOLDER,
        record=RECORD,
    )
    return Step(
        subject=RELEASE,
        probe=f"[ -e {RECORD} ] && cat {RECORD}\n{answered} || release_fact {quote(asked)}\n:",
        slow=True,
        wanted=f"{settings.version}, pinned" if settings.version else line,
        apply=lambda fact: None if _recorded(settings, _fields(fact)) else script,
        after=after,
        refuse=lambda fact: _refusal(asked, _fields(fact), pins or {}, upgrade=upgrade),
        shown=lambda fact: _versions(_fields(fact)),
    )


def _fields(fact: str) -> dict[str, str]:
    """The record's lines, and the answer of release_fact, by their first word. "sealed" is the offered checksum."""
    known = {key: rest for key, _, rest in (row.partition(" ") for row in fact.splitlines())}
    if "offered" in known:
        known["offered"], _, known["sealed"] = known["offered"].partition(" ")
    return known


def _recorded(settings: InstallSettings, known: dict[str, str]) -> bool:
    """Whether the record is of the wanted pin or channel, and npm's registry offers nothing else."""
    if "integrity" not in known:
        return False
    recorded = known.get("version")
    if settings.version:
        return recorded == settings.version == known.get("offered", recorded)
    same = known.get("channel") == settings.channel
    return bool(recorded) and same and known.get("offered", recorded) == recorded


def _refusal(asked: str, known: dict[str, str], pins: Mapping[str, str], *, upgrade: bool) -> str | None:
    """The reason not to begin. An upgrade without an answer would pass for one that has nothing to do."""
    for version, integrity in (("version", "integrity"), ("offered", "sealed")):
        if integrity in known and (
            reason := foreign(f"openclaw@{known.get(version)}", known[integrity], pins)
        ):
            return reason
    if upgrade and "unanswered" in known:
        return f"npm's registry does not say what {asked} is: {known['unanswered'][:200]}"
    return f"npm's registry has no {asked}" if _unknown(asked, known) else None


def _unknown(asked: str, known: dict[str, str]) -> bool:
    """Whether npm's registry has no such release. A guest without npm says nothing; then this computer asks."""
    if known:
        return "unknown" in known
    with _ONE_QUESTION:  # many hosts side by side need one answer, not an npm each
        return unknown_here(asked)


def _versions(known: dict[str, str]) -> str | None:
    return " → ".join(filter(None, (known.get("version"), known.get("offered")))) or None


@cache
def unknown_here(asked: str) -> bool:
    """Return whether npm on this computer, if it has one, says that the registry has no release `asked`."""
    # The guest will ask npm's default registry, so this computer's npm settings are left out.
    own = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    nothing = {"npm_config_userconfig": "/nonexistent/user", "npm_config_globalconfig": "/nonexistent/global"}
    quick = {"npm_config_fetch_retries": "0", "npm_config_fetch_timeout": "5000"}  # milliseconds
    try:
        done = subprocess.run(
            ["sh"],
            input=f"{prelude()}\nrelease_fact {quote(asked)}\n",
            env={**own, **nothing, **quick},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.stdout.strip() == "unknown"


def _checkout(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> list[Step]:
    """Steps for OpenClaw from source: clone the branch, build what changed, and put the program into the PATH.

    With `upgrade`, the checkout goes forward to the branch's newest commit.
    """
    name, folder = settings.user, settings.repo_dir
    source = {"folder": folder, "url": settings.repo_url, "branch": settings.repo_branch}

    def step(title: str, verb: str, done: str, after: tuple[str, ...]) -> Step:
        script, unless = (render(f"guest/checkout-{word}.sh.j2", **source) for word in (verb, done))
        return command(title, script, unless=unless, after=after, as_name=name)

    steps = [step(f"clone of {settings.repo_url}", "clone", "cloned", after)]
    there = (steps[-1].subject,)
    if upgrade:
        steps.append(step(f"newest commit of {settings.repo_branch}", "update", "updated", there))
        there = (steps[-1].subject,)
    build = step("build of OpenClaw", "build", "built", there)
    build = replace(build, reacts_to=there if upgrade else ())
    shim = user_file(
        name,
        f"{settings.home}/.local/bin/openclaw",
        render("guest/checkout-shim.sh.j2", folder=folder),
        mode="755",
        after=(build.subject,),
    )
    return [*steps, build, shim]


def first_config(settings: InstallSettings, config: str | None) -> Step:
    """Return the step for openclaw.json, which is written only if the guest has none.

    The guest starts from `config`, the text of a file. Without one it starts from the minimum that the gateway needs,
    with a token that is made in the guest and stays there. Raise Refused if `config` is no JSON object.
    """
    path = f"{settings.config_dir}/openclaw.json"
    there = (directory(settings.config_dir).subject,)
    if config is not None:
        return seed(settings.user, path, config, after=there, hidden=_secrets(config, settings))
    gateway = {
        "mode": "local",
        "bind": "loopback",
        "port": settings.port,
        "auth": {"mode": "token", "token": "@TOKEN@"},
    }
    text = json.dumps({"gateway": gateway}, indent=2) + "\n"
    head, _, tail = text.partition("@TOKEN@")
    values = {"head": head, "tail": tail, "path": path, "user": settings.user}
    script = as_user(settings.user, render("guest/openclaw-config.sh.j2", **values))
    return replace(
        seed(settings.user, path, text, after=there),
        wanted="there, with a token of its own",
        apply=lambda fact: None if fact == "there" else script,
    )


def _secrets(config: str, settings: InstallSettings) -> tuple[str, ...]:
    """Every longer text in the configuration, since any of them may be a key."""
    hint = "it becomes the guest's openclaw.json, so it must be plain JSON"
    try:
        found = json.loads(config)
        texts = tuple(_texts(found))
    except (ValueError, RecursionError) as error:
        raise Refused(f"openclaw.config: {settings.config} is not valid JSON: {error}", hint) from None
    if not isinstance(found, dict):
        raise Refused(f"openclaw.config: {settings.config} holds no JSON object", hint)
    return texts


def _texts(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) and len(node) >= _SHORTEST_KEY else []
