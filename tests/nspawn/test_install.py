"""A bare system becomes an OpenClaw host: real packages, the real OpenClaw, and the suite of `inv verify`."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.deadline import Deadline
from swarm.errors import Refused
from swarm.guest.customize import customize
from swarm.guest.engine.converge import converge
from swarm.guest.install import openclaw, pins
from swarm.guest.install.steps import install
from swarm.guest.kinds.accounts import user
from swarm.guest.verify import Expected, verify
from swarm.ssh.guest import Guest
from tests.nspawn.at_the_prompt import Operator
from tests.nspawn.installed import KEY, OWN, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from swarm.console import Talk
    from swarm.plan import Plan
    from swarm.ssh.conversation import Running
    from tests.conftest import Dirs
    from tests.nspawn.installed import Installed
    from tools.lab import Machine, World

pytestmark = pytest.mark.slow


def subjects(plan: Plan) -> list[str]:
    """The subjects of a plan's changes."""
    return [change.subject for change in plan]


@pytest.fixture
def bare(installed: Installed) -> Machine:
    """A bare machine that reaches the package registries, until a test uses `host`."""
    return installed.bare()


@pytest.fixture
def host(installed: Installed, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The same machine, installed and customized. It is installed again if a test has broken it."""
    machine = installed.host(request.session.testsfailed)
    yield machine
    machine.guest().close()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every script that is sent to a host, in order."""
    seen: list[str] = []
    send: Callable[..., Running] = Guest.script

    def counted(self: Guest, script: str, *rest: object, **named: object) -> Running:
        seen.append(script)
        return send(self, script, *rest, **named)

    monkeypatch.setattr(Guest, "script", counted)
    return seen


def test_plan_on_a_bare_system(bare: Machine, talk: Talk, trips: list[str]) -> None:
    """The plan for a bare system takes one round trip, shows the files' differences, and changes nothing."""
    plan = install(bare.guest(), SETTINGS, talk, plan_only=True)
    assert len(trips) == 1
    assert "gateway ready" in subjects(plan)
    assert [change for change in plan if change.certain] != []
    jail = next(change for change in plan if "fail2ban/jail" in change.subject)
    assert not jail.certain
    assert "+bantime = 3600" in (jail.detail or "")
    assert bare.ssh("getent passwd openclaw || echo none") == "none\n"


@pytest.mark.skipif(not shutil.which("npm"), reason="this computer has no npm to ask")
def test_wrong_release_on_a_bare_system(bare: Machine, talk: Talk, trips: list[str]) -> None:
    """A version that is not in npm's registry is refused before any change, even if only this computer has npm."""
    with pytest.raises(Refused, match=r"npm's registry has no openclaw@1.2.3-nope") as caught:
        install(bare.guest(), SETTINGS.model_copy(update={"version": "1.2.3-nope"}), talk)
    assert caught.value.hint == "nothing was changed"
    assert len(trips) == 1


def test_pinned_release_that_does_not_exist(
    bare: Machine, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an npm here, such a version is refused once the guest has npm, before OpenClaw is installed."""
    monkeypatch.setattr(openclaw, "unknown_here", lambda _: False)
    wrong = SETTINGS.model_copy(update={"version": "1.2.3-nope"})
    with pytest.raises(Refused, match=r"npm's registry has no openclaw@1.2.3-nope"):
        install(bare.guest(), wrong, talk, deadline=Deadline(1500))
    assert bare.ssh("ls /var/lib/swarm/openclaw-release 2>/dev/null || echo none") == "none\n"


def test_every_promise(host: Machine, talk: Talk, tmp_path: Path) -> None:
    """After install and customize, every applicable promise is kept, and the report is written."""
    expected = Expected(swappiness=10, timezone="Europe/Berlin", ssh_keys=(KEY,))
    promises = verify(host.guest(), expected, talk, junit=tmp_path / "report.xml").checks
    assert [promise for promise in promises if promise.result == "broken"] == []
    # What such a machine has not: Secure Boot, TPM, a virtiofs share (two promises), buildx, Tailscale,
    # authorities.
    assert sum(promise.result == "skipped" for promise in promises) == 7
    assert sum(promise.result == "kept" for promise in promises) >= 29
    assert (tmp_path / "report.xml").read_text().startswith("<?xml")


def test_second_run(host: Machine, talk: Talk, trips: list[str]) -> None:
    """A second install and a second customize find nothing to do, each in one round trip."""
    assert not install(host.guest(), SETTINGS, talk)
    assert not customize(host.guest(), OWN, talk)
    assert len(trips) == 2


def test_real_gateway(host: Machine) -> None:
    """The real OpenClaw answers. Its token was created in the guest, and only its user can read it."""
    assert json.loads(host.ssh("curl -fsS http://127.0.0.1:18789/readyz"))["ready"] is True
    config = json.loads(host.ssh("cat /home/openclaw/.openclaw/openclaw.json"))
    assert len(config["gateway"]["auth"]["token"]) == 48
    assert host.ssh("stat -c '%a %U' /home/openclaw/.openclaw/openclaw.json") == "600 openclaw\n"


def test_what_agents_do_in_the_confinement(host: Machine) -> None:
    """With the gateway's limits a program uses Docker, Node, ssh and namespaces as without, but no sudo."""
    folder, work = "/run/systemd/user/confined.service.d", "/home/openclaw/work.sh"
    uses = "docker version -f '{{.Server.Os}}'; node -p 2+2; ssh -G x >/dev/null 2>&1 && echo ssh; unshare -Ur id -u"
    host.ssh(f"""cat >{work} <<'END'
{uses}
sudo -n -l >/dev/null 2>&1 && echo sudo || echo none
END
install -D -m 644 /home/openclaw/.config/systemd/user/openclaw-gateway.service.d/50-swarm.conf {folder}/limits.conf""")
    run = "systemd-run --user --pipe --wait --quiet --collect --unit"
    place = "/run/user/$(id -u)"
    bus = f"export XDG_RUNTIME_DIR={place} DBUS_SESSION_BUS_ADDRESS=unix:path={place}/bus"
    bus += "; systemctl --user daemon-reload"
    try:
        confined, free = (
            host.ssh(f"runuser -u openclaw -- sh -c '{bus}; {run} {name} sh {work} 2>&1'")
            for name in ("confined", "free")
        )
    finally:
        host.ssh(f"rm -r {folder} {work}")
    assert free == "linux\n4\nssh\n0\nsudo\n"
    assert confined == free.replace("sudo", "none")


def test_backup_of_the_real_gateway(host: Machine, world: World, dirs: Dirs) -> None:
    """The running gateway's state is backed up, lost and restored. Then the gateway is ready, with the same files."""
    operator = Operator.make(world, dirs)
    operator.add("zap", host)
    first = operator.inv("backup", "--host", "zap")
    assert first.code == 0, first.err
    assert "verified (content)" in first.err
    state = "/home/openclaw/.openclaw"
    sums = f"cd {state} && sha256sum openclaw.json && find . -name '*.sqlite' | sort"
    before = host.ssh(sums)
    host.ssh(f"rm -rf {state}/agents {state}/state; echo broken >{state}/openclaw.json")
    restored = operator.inv("restore", "--host", "zap", "--archive", "latest", "--yes")
    assert restored.code == 0, restored.err
    assert host.ssh(sums) == before
    assert "state/openclaw.sqlite" in before
    assert json.loads(host.ssh("curl -fsS http://127.0.0.1:18789/readyz"))["ready"] is True
    operator.close()


def test_only_ssh_from_outside(host: Machine) -> None:
    """From another machine only SSH can be reached: not the gateway, and not a port that a container publishes."""
    files = "/usr/bin/python3 /usr/lib/python3.11 $(ldd /usr/bin/python3 | grep -o '/[^ ]*')"
    host.ssh(f"tar -chf - {files} 2>/dev/null | docker import - web")
    host.ssh("docker run -d --rm --name web -p 8088:8088 web /usr/bin/python3 -m http.server 8088")
    try:
        host.until("curl -fsS -o /dev/null -m 10 http://127.0.0.1:8088", "the container's port is published")
        for port, wanted in ((22, True), (18789, False), (8088, False)):
            address = f"TCP:{host.ip}:{port},connect-timeout={30 if wanted else 3}"
            attempt = host.world.inside("socat", "-u", "OPEN:/dev/null", address)
            assert (subprocess.run(attempt, check=False, capture_output=True).returncode == 0) is wanted, port
    finally:
        host.ssh("docker stop -t 1 web; docker image rm -f web")


def test_reboot(host: Machine, talk: Talk) -> None:
    """After a reboot everything is up again by itself, and there is nothing to do."""
    host.reboot()
    host.until("curl -fsS -m 10 http://127.0.0.1:18789/readyz", "the gateway is ready after a reboot")
    assert not install(host.guest(), SETTINGS, talk)
    assert not customize(host.guest(), OWN, talk)


def test_drift(host: Machine, talk: Talk) -> None:
    """Manual changes are reverted: an opened firewall, a stopped service, a unit of an old version."""
    unit = "/home/openclaw/.config/systemd/user/openclaw-gateway.service"
    host.ssh(
        f"iptables -F DOCKER-USER; systemctl stop fail2ban; sed -i s,/dist/index.js,/old/index.js, {unit}"
    )
    plan = install(host.guest(), SETTINGS, talk, deadline=Deadline(600))
    assert subjects(plan)[:3] == ["firewall", "unit fail2ban.service", "gateway unit"]
    assert not install(host.guest(), SETTINGS, talk)


def test_settings_of_others(host: Machine, talk: Talk) -> None:
    """A limit of the firewall, IPv6 that is off, and Docker's own settings stay. Nothing has "no effect"."""
    host.ssh(
        "ufw limit 22/tcp; sed -i s/^IPV6=yes/IPV6=no/ /etc/default/ufw; "
        'echo \'{"labels": ["a=b"]}\' >/etc/docker/daemon.json'
    )
    plan = install(host.guest(), SETTINGS, talk, deadline=Deadline(600))
    assert set(subjects(plan)) == {"firewall", "file /etc/docker/daemon.json", "unit docker.service"}
    assert not install(host.guest(), SETTINGS, talk)
    daemon = json.loads(host.ssh("cat /etc/docker/daemon.json"))
    assert (daemon["labels"], daemon["log-driver"], daemon["live-restore"]) == (["a=b"], "json-file", True)
    assert "limit tcp 22 0.0.0.0/0" in host.ssh("cat /etc/ufw/user.rules")
    broken = [check for check in verify(host.guest(), Expected(), talk).checks if check.result == "broken"]
    assert broken == []
    host.ssh("sed -i s/^IPV6=no/IPV6=yes/ /etc/default/ufw; ufw reload; ufw allow 22/tcp")
    install(host.guest(), SETTINGS, talk, deadline=Deadline(600))


def test_release_that_does_not_exist(host: Machine, talk: Talk, trips: list[str]) -> None:
    """If npm is available, an unknown version or channel is refused before any change."""
    for wrong in ({"version": "1.2.3-nope"}, {"channel": "no-such-channel"}):
        with pytest.raises(Refused, match="npm's registry has no openclaw@"):
            install(host.guest(), SETTINGS.model_copy(update=wrong), talk)
    assert len(trips) == 2


def test_pin(host: Machine, talk: Talk) -> None:
    """Pinning the version that the channel resolved to changes only the record."""
    version = host.ssh("sed -n 's/^version //p' /var/lib/swarm/openclaw-release").strip()
    assert not install(host.guest(), SETTINGS.model_copy(update={"version": version}), talk)
    assert not install(host.guest(), SETTINGS, talk, upgrade=False)


def test_another_archive_of_the_same_release(host: Machine, talk: Talk, dirs: Dirs) -> None:
    """Once another host has got another archive of the installed release, the installation is refused."""
    assert dirs
    rows = dict(row.split(" ", 1) for row in host.ssh("cat /var/lib/swarm/openclaw-release").splitlines())
    assert pins.INTEGRITY.fullmatch(rows["integrity"])
    pins.learn("other", f"version {rows['version']}\nintegrity sha512-{'A' * 86}==\n")
    with pytest.raises(Refused, match="is not the archive that was installed before"):
        install(host.guest(), SETTINGS, talk)


def test_checkout(host: Machine, talk: Talk) -> None:
    """install_mode development clones the branch, builds it and links it. The next run builds a new commit."""
    source = "/srv/source"
    package = json.dumps(
        {"name": "openclaw", "version": "0.0.1", "scripts": {"build": "cp openclaw.src openclaw.mjs"}}
    )
    commit = "git add -A && git -c user.name=t -c user.email=t@example.invalid commit -qm one"
    guest = host.guest()
    dev = user("dev", home="/home/dev")
    converge(guest, [dev], talk)
    host.ssh(
        f"mkdir -p {source}; cd {source}; git init -q -b trunk; printf %s '{package}' >package.json; "
        "echo node_modules >.gitignore; "
        f"echo 'console.log(\"one\")' >openclaw.src; pnpm install --silent; {commit}; chown -R dev {source}"
    )
    settings = SETTINGS.model_copy(
        update={
            "user": "dev",
            "install_mode": "development",
            "repo_url": f"file://{source}",
            "repo_branch": "trunk",
        }
    )
    wanted = [dev, *openclaw.software(settings, (dev.subject,), upgrade=False)]
    converge(guest, wanted, talk)
    assert not converge(guest, wanted, talk)
    assert host.ssh("runuser -l dev -c ~dev/.local/bin/openclaw") == "one\n"
    host.ssh(
        f"runuser -u dev -- sh -c 'cd ~dev/code/openclaw && echo \"console.log(2)\" >openclaw.src && {commit}'"
    )
    assert subjects(converge(guest, wanted, talk)) == ["command build of OpenClaw"]
    assert host.ssh("runuser -l dev -c ~dev/.local/bin/openclaw") == "2\n"
