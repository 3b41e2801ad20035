"""OpenClaw, its account and its configuration as tables: given these facts, exactly this shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from swarm.errors import Refused
from swarm.guest.engine.script import BUNDLE, as_user
from swarm.guest.install.openclaw import account, first_config, release, software, unknown_here
from swarm.guest.kinds.accounts import authorized_keys, seeded_keys, user
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.edits import user_block
from swarm.guest.kinds.files import directory, seed, user_file
from swarm.guest.kinds.npm import pnpm_global
from swarm.templates import render
from tests.unit.steps import place, same, settings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.guest.engine.step import Step

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx tests"
BASE = ("packages: tools",)
RECORD = "/var/lib/swarm/openclaw-release"
SEALED = f"grep -q '^integrity ' {RECORD}"


def keys_of(name: str, home: str, after: tuple[str, ...]) -> list[Step]:
    """The steps for the keys that may log in as `name`."""
    own = authorized_keys(name, home, [KEY], after=after)
    return [own, seeded_keys(name, home, [KEY], after=(own.subject,))]


@pytest.mark.parametrize("keys", [(), (KEY,)])
@pytest.mark.parametrize("proxy", [False, True])
def test_account(*, keys: tuple[str, ...], proxy: bool) -> None:
    """The account gets its environment and private folders, and it and root the keys of the host file, if any."""
    found = account(settings(user="zed", ssh_keys=keys, ca_certificates=["machine"] if proxy else []), BASE)
    home = "/home/zed"
    after = ("user zed",)
    state = directory(f"{home}/.openclaw", mode="700", owner="zed", after=after)
    inner = {"mode": "700", "owner": "zed", "after": (state.subject,)}
    environment = f"PNPM_HOME={home}/.local/share/pnpm\n"
    environment += f"PATH={home}/.local/share/pnpm/bin:{home}/.local/bin:/usr/local/bin:/usr/bin:/bin\n"
    environment += f"NODE_EXTRA_CA_CERTS={BUNDLE}\n" if proxy else ""
    expected = [
        user("zed", home=home, after=BASE),
        user_block("zed", f"{home}/.bashrc", "environment", render("guest/bashrc.j2"), after=after),
        user_file("zed", f"{home}/.config/environment.d/50-swarm.conf", environment, after=after),
        state,
        directory(f"{home}/.openclaw/credentials", **inner),  # type: ignore[arg-type]
        directory(f"{home}/.openclaw/workspace", **inner),  # type: ignore[arg-type]
        *(keys_of("zed", home, after) if keys else []),
        *(keys_of("root", "/root", ()) if keys else []),
    ]
    same(found, expected)


@pytest.mark.parametrize(
    ("values", "fact", "due"),
    [
        ({}, "", True),
        ({}, "version 2026.9.6", True),
        ({}, "channel latest", True),
        ({}, "version 2026.9.6\nchannel latest", True),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", False),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a\noffered 2026.9.7 sha512-b", True),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a\noffered 2026.9.6 sha512-a", False),
        ({"channel": "beta"}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", True),
        ({"version": "2026.9.6"}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", False),
        (
            {"version": "2026.9.6"},
            "version 2026.9.6\npinned\nintegrity sha512-a\noffered 2026.9.6 sha512-a",
            False,
        ),
        (
            {"version": "2026.9.6"},
            "version 2026.9.6\npinned\nintegrity sha512-a\noffered 2026.9.7 sha512-b",
            True,
        ),
        ({"version": "2026.9.7"}, "version 2026.9.6\npinned\nintegrity sha512-a", True),
    ],
)
def test_release(*, values: dict[str, str], fact: str, due: bool) -> None:
    """A channel is resolved once and recorded; an upgrade, another channel or another pin resolves it again."""
    step = release(settings(**values), BASE, upgrade=False)
    source = "pinned" if "version" in values else f"channel {values.get('channel', 'latest')}"
    asked = f"openclaw@{values.get('version') or values.get('channel', 'latest')}"
    folder = "/var/lib/swarm"
    script = render("guest/openclaw-release.sh.j2", asked=asked, source=source, folder=folder, record=RECORD)
    assert step.apply(fact) == (script if due else None)
    assert step.wanted == (f"{values['version']}, pinned" if "version" in values else source)
    assert place(step) == ("OpenClaw release", BASE, ())


@pytest.mark.parametrize(
    ("values", "upgrade", "condition"),
    [
        ({}, False, f"grep -qxF 'channel latest' {RECORD} && {SEALED}"),
        ({}, True, "false"),
        ({"version": "1.2.3"}, False, f"grep -qxF 'version 1.2.3' {RECORD} && {SEALED}"),
        ({"version": "1.2.3"}, True, f"grep -qxF 'version 1.2.3' {RECORD} && {SEALED}"),
    ],
)
def test_release_probe(*, values: dict[str, str], upgrade: bool, condition: str) -> None:
    """The npm registry is asked only if the record does not answer, or for an upgrade of a channel."""
    asked = f"openclaw@{values.get('version', 'latest')}"
    expected = f"[ -e {RECORD} ] && cat {RECORD}\n{condition} || release_fact {asked}\n:"
    assert release(settings(**values), (), upgrade=upgrade).probe == expected


@pytest.mark.parametrize(
    ("fact", "shown", "refused"),
    [
        ("version 1\nchannel latest", "1", False),
        ("version 1\nchannel latest\noffered 2 sha512-a", "1 → 2", False),
        ("offered 2 none", "2", False),
        ("channel latest", None, False),
        ("unknown", None, True),
        ("version 1\nunknown", "1", True),
        ("unanswered npm error network", None, False),
    ],
)
def test_release_is_shown(*, fact: str, shown: str | None, refused: bool) -> None:
    """The recorded and the offered version are shown, and a release that the registry does not have is refused."""
    step = release(settings(), (), upgrade=False)
    assert step.shown(fact) == shown
    assert step.refuse(fact) == ("npm's registry has no openclaw@latest" if refused else None)


@pytest.mark.parametrize(
    ("fact", "refused"),
    [
        ("offered 1.2.3 sha512-a", False),
        ("offered 1.2.3 sha512-b", True),
        ("offered 1.2.3 none", True),
        ("offered 1.2.4 sha512-b", False),
        ("version 1.2.3\npinned\nintegrity sha512-a", False),
        ("version 1.2.3\npinned\nintegrity sha512-b", True),
        ("version 1.2.3\npinned\nintegrity sha512-a\noffered 1.2.3 sha512-b", True),
    ],
)
def test_release_of_another_archive(*, fact: str, refused: bool) -> None:
    """A release is refused if its archive is not the one that was installed before, here or on another host."""
    step = release(settings(), (), upgrade=False, pins={"openclaw@1.2.3": "sha512-a"})
    reason = step.refuse(fact)
    assert (reason is not None) is refused
    assert not reason or "openclaw@1.2.3 is not the archive that was installed before" in reason


@pytest.mark.parametrize(
    ("npm", "refused"),
    [
        ('echo \'"version": "1.2.3"\'', False),
        ("echo npm error code E404 >&2; exit 1", True),
        ("echo npm error network >&2; exit 1", False),
        (None, False),
    ],
)
def test_release_asked_for_here(
    *,
    npm: str | None,
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the guest has no npm, the one here asks the default registry. Only its clear no is a reason to refuse."""
    for name in ("sh", "sed", "mktemp", "rm", "grep", "tail", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    if npm:
        clean = '[ -z "${npm_config_registry-}" ] && [ "$npm_config_fetch_timeout" = 5000 ]'
        only = '[ "$npm_config_userconfig$npm_config_globalconfig" = /nonexistent/user/nonexistent/global ]'
        once = '[ "$npm_config_fetch_retries" = 0 ]'
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{clean} && {only} && {once} || exit 9\n{npm}\n")
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    unknown_here.cache_clear()
    step = release(settings(version="1.2.3"), (), upgrade=False)
    assert step.refuse("") == ("npm's registry has no openclaw@1.2.3" if refused else None)
    assert step.refuse("version 1.2.3\npinned") is None
    unknown_here.cache_clear()


def test_released_program() -> None:
    """A release is resolved, and then installed by pnpm for the account."""
    found = software(settings(user="zed"), BASE, upgrade=False)
    resolved = release(settings(user="zed"), BASE, upgrade=False)
    same(found[1:], [pnpm_global("zed", "openclaw", "/home/zed", RECORD, after=(resolved.subject,))])
    assert place(found[0]) == place(resolved)
    assert "false" in software(settings(), BASE, upgrade=True)[0].probe


@pytest.mark.parametrize("upgrade", [False, True])
def test_checkout(*, upgrade: bool) -> None:
    """In development mode the branch is cloned, built, and put into the user's PATH. An upgrade looks for commits."""
    url, folder = "file:///srv/it's here", "/home/zed/code/openclaw"
    source = {"folder": folder, "url": url, "branch": "trunk"}
    clone = command(
        f"clone of {url}",
        render("guest/checkout-clone.sh.j2", **source),
        unless=render("guest/checkout-cloned.sh.j2", **source),
        after=BASE,
        as_name="zed",
    )
    newest = command(
        "newest commit of trunk",
        render("guest/checkout-update.sh.j2", **source),
        unless=render("guest/checkout-updated.sh.j2", **source),
        after=(clone.subject,),
        as_name="zed",
    )
    before = [clone, newest] if upgrade else [clone]
    build = command(
        "build of OpenClaw",
        render("guest/checkout-build.sh.j2", folder=folder),
        unless=render("guest/checkout-built.sh.j2", folder=folder),
        after=(before[-1].subject,),
        as_name="zed",
    )
    if upgrade:
        build = replace(build, reacts_to=(newest.subject,))
    shim = f'#!/bin/sh\nexec node {folder}/openclaw.mjs "$@"\n'
    path = "/home/zed/.local/bin/openclaw"
    expected = [*before, build, user_file("zed", path, shim, mode="755", after=(build.subject,))]
    values = {"user": "zed", "install_mode": "development", "repo_url": url, "repo_branch": "trunk"}
    same(software(settings(**values), BASE, upgrade=upgrade), expected)


def test_an_upgrade_of_a_checkout(tmp_path: Path) -> None:
    """The checkout goes forward to the branch's newest commit. One with commits of its own keeps them."""

    def git(*words: str, folder: str = "theirs") -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
        subprocess.run(["git", "-C", tmp_path / folder, *who, *words], check=True, capture_output=True)

    def run(name: str) -> bool:
        values = {"folder": str(tmp_path / "ours"), "url": str(tmp_path / "theirs"), "branch": "trunk"}
        script = render(f"guest/checkout-{name}.sh.j2", **values)
        return (
            subprocess.run(["sh", "-eu"], input=script.encode(), capture_output=True, check=False).returncode
            == 0
        )

    def commit(folder: str, name: str) -> None:
        (tmp_path / folder / name).touch()
        git("add", name, folder=folder)
        git("commit", "-qm", name, folder=folder)

    (tmp_path / "theirs").mkdir()
    git("init", "-q", "-b", "trunk")
    commit("theirs", "one")
    assert (run("updated"), run("clone"), run("updated")) == (False, True, True)
    commit("theirs", "two")
    assert (run("updated"), run("update"), run("updated")) == (False, True, True)
    assert (tmp_path / "ours/two").exists()
    commit("ours", "own")
    assert run("updated")
    commit("theirs", "three")
    assert (run("updated"), run("update")) == (False, False)
    assert (tmp_path / "ours/own").exists()


def test_first_configuration() -> None:
    """A guest without openclaw.json starts from the minimum, with a token of its own; an existing one is left alone."""
    step = first_config(settings(user="zed", port=2000), None)
    path = "/home/zed/.openclaw/openclaw.json"
    script = step.apply("absent") or ""
    assert place(step) == (f"seed {path}", ("folder /home/zed/.openclaw",), ())
    assert step.wanted == "there, with a token of its own"
    assert step.apply("there") is None
    gateway_part = {
        "mode": "local",
        "bind": "loopback",
        "port": 2000,
        "auth": {"mode": "token", "token": "@TOKEN@"},
    }
    text = json.dumps({"gateway": gateway_part}, indent=2) + "\n"
    head, tail = text.split("@TOKEN@")
    expected = render("guest/openclaw-config.sh.j2", head=head, tail=tail, path=path, user="zed")
    assert script == as_user("zed", expected)


def test_given_configuration() -> None:
    """An openclaw.json is copied unchanged, and its longer texts are hidden. What is no object is refused."""
    text = json.dumps(
        {"a": ["twelve chars", "eleven char"], "b": {"c": "another long text"}, "d": 123456789012345}
    )
    secrets = ("twelve chars", "another long text")
    path = "/home/openclaw/.openclaw/openclaw.json"
    expected = seed("openclaw", path, text, after=("folder /home/openclaw/.openclaw",), hidden=secrets)
    same([first_config(settings(), text)], [expected])
    for wrong in ("{ gateway: }", "[" * 200_000):
        with pytest.raises(Refused, match=r"openclaw.config: /x.json is not valid JSON"):
            first_config(settings(config="/x.json"), wrong)
    for other in ("[]", "3", "null", '["a long text in a list"]'):
        with pytest.raises(Refused, match=r"openclaw.config: /x.json holds no JSON object"):
            first_config(settings(config="/x.json"), other)
