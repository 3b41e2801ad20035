"""The engine and every kind of step, on a real system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.deadline import Deadline
from swarm.errors import CommandFailed, Refused, VerificationFailed
from swarm.guest.engine.converge import converge
from swarm.guest.engine.step import Step
from swarm.guest.kinds.accounts import authorized_keys, group, member, user
from swarm.guest.kinds.commands import check, command
from swarm.guest.kinds.edits import block, line, user_block
from swarm.guest.kinds.files import directory, file, seed, user_file
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.owned import owned_file
from swarm.guest.kinds.settings import sysctl
from swarm.guest.kinds.units import linger, unit
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import ConnectionLost

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.plan import Plan
    from tools.lab import Machine

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx tests"
NASTY = "quotes ' \" ` $HOME \\ \\n %s ünï\ttab !\n  $(touch /tmp/injected)\nend without newline"
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=default.target\n"


def make(name: str, script: str, *, after: tuple[str, ...] = (), secrets: tuple[str, ...] = ()) -> Step:
    """A step that runs `script` and is satisfied when the file /tmp/NAME exists."""
    return Step(
        subject=name,
        probe=f"if [ -e /tmp/{name} ]; then echo there; else echo absent; fi",
        wanted="there",
        apply=lambda fact: None if fact == "there" else f"{script}\ntouch /tmp/{name}",
        after=after,
        secrets=secrets,
    )


def everything() -> list[Step]:
    """One step of each kind that needs no registry."""
    zed = ("user zed",)
    marked = ("file /etc/systemd/system/marked.service",)
    return [
        user("zed", home="/home/zed", home_mode="750"),
        group("makers"),
        member("zed", "makers", after=(*zed, "group makers")),
        file("/etc/nasty/deep/file", NASTY, mode="640", group="makers", after=("group makers",)),
        directory("/srv/box", mode="711"),
        line("/etc/list", "color = blue", r"^color\b"),
        block("/etc/list", "own", "a = 1\nb = 2", after=("line in /etc/list: color = blue",)),
        sysctl("net.ipv4.ip_default_ttl", "65"),
        authorized_keys("zed", "/home/zed", [KEY], after=zed),
        user_file("zed", "/home/zed/.config/deep/file", NASTY, after=zed),
        user_block("zed", "/home/zed/.bashrc", "own", "export A=1", after=zed),
        directory("/home/zed/private", mode="700", owner="zed", after=zed),
        seed("zed", "/home/zed/seeded", "first", after=zed),
        linger("zed", after=zed),
        file("/etc/systemd/system/marked.service", UNIT),
        unit("marked.service", config=("/etc/systemd/system/marked.service",), reacts_to=marked),
        user_file("zed", "/home/zed/.config/systemd/user/own.service", UNIT, after=zed),
        unit(
            "own.service",
            user="zed",
            after=("linger for zed", "file /home/zed/.config/systemd/user/own.service"),
        ),
        *mount("tmpfs", "/mnt/with blank", "tmpfs", "size=64k,nofail"),
        command("echo of a quote", 'echo "it\'s" >/tmp/quoted', unless='grep -q "it\'s" /tmp/quoted'),
    ]


def subjects(plan: Plan) -> list[str]:
    """The subjects of a plan's changes."""
    return [change.subject for change in plan]


def test_every_kind(machine: Machine, guest: Guest, talk: Talk) -> None:
    """Every kind of step reaches its state. A second run finds nothing to do, and the state survives a reboot."""
    wanted = everything()
    assert subjects(converge(guest, wanted, talk, plan_only=True))
    assert len(converge(guest, wanted, talk).changes) == len(wanted)
    assert not converge(guest, wanted, talk)
    assert machine.ssh("cat /etc/nasty/deep/file") == NASTY
    assert (
        machine.ssh("stat -c '%a %U %G' /etc/nasty/deep/file /home/zed/.config/deep/file")
        == "640 root makers\n644 zed zed\n"
    )
    assert machine.ssh("cat /etc/list") == "color = blue\n# BEGIN swarm own\na = 1\nb = 2\n# END swarm own\n"
    assert machine.ssh("true; ls /tmp").find("injected") == -1
    machine.reboot()
    # A home-made unit and a user's unit are up again, the sysctl is set, the mount is there.
    assert subjects(converge(guest, wanted, talk)) == ["command echo of a quote"]  # its file was in /tmp


def test_plan_changes_nothing(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A plan shows a file's diff, marks dependent changes as uncertain, and changes nothing."""
    first = file("/etc/planned", "one\ntwo\n")
    converge(guest, [first], talk)
    second = file("/etc/planned", "one\nthree\n", mode="600")
    hanging = make("hanging", "true", after=(second.subject,))
    plan = converge(guest, [second, hanging], talk, plan_only=True)
    assert [(change.subject, change.action, change.certain) for change in plan] == [
        ("file /etc/planned", "update", True),
        ("hanging", "create", False),
    ]
    assert (plan.changes[0].detail or "").splitlines()[2:] == ["@@ -1,2 +1,2 @@", " one", "-two", "+three"]
    assert machine.ssh("cat /etc/planned; ls /tmp").startswith("one\ntwo\n")


def test_drift(machine: Machine, guest: Guest, talk: Talk) -> None:
    """Manual changes are reverted, and nothing else is touched."""
    wanted = [
        file("/etc/drift/a", "a\n"),
        file("/etc/drift/b", "b\n"),
        sysctl("net.ipv4.tcp_fin_timeout", "59"),
    ]
    converge(guest, wanted, talk)
    machine.ssh("chmod 666 /etc/drift/b; echo 61 >/proc/sys/net/ipv4/tcp_fin_timeout")
    assert subjects(converge(guest, wanted, talk)) == [
        "file /etc/drift/b",
        "sysctl net.ipv4.tcp_fin_timeout",
    ]
    assert machine.ssh("stat -c %a /etc/drift/b; cat /proc/sys/net/ipv4/tcp_fin_timeout") == "644\n59\n"


def test_a_link_in_the_way(machine: Machine, guest: Guest, talk: Talk) -> None:
    """Root neither writes nor shows the target of a link in place of a user's file."""
    machine.login("mallory")
    machine.ssh(
        "echo precious >/root/precious; ln -sf /root/precious /home/mallory/file; ln -sfn /root /home/mallory/folder"
    )
    plan = converge(guest, [user_file("mallory", "/home/mallory/file", "mine\n")], talk)
    assert "precious" not in str(plan.changes[0].detail)
    with pytest.raises(CommandFailed, match="Permission denied"):
        converge(guest, [user_file("mallory", "/home/mallory/folder/new", "mine\n")], talk)
    assert machine.ssh("cat /root/precious; ls /root/new 2>&1 || true").startswith("precious\n")


def test_a_file_of_a_users_own(machine: Machine, guest: Guest, talk: Talk) -> None:
    """It and its new folders belong to the user, a second run changes nothing, and a refusal comes first."""
    machine.login("walter")
    own = owned_file("/home/walter/new/file", "mine\n", owner="walter")
    etc = owned_file("/etc/drift/walter", "mine\n", mode="600", owner="walter")
    assert subjects(converge(guest, [own, etc], talk)) == [own.subject, etc.subject]
    assert converge(guest, [own, etc], talk).changes == ()
    owners = machine.ssh("stat -c %U:%G /home/walter/new /home/walter/new/file /etc/drift /etc/drift/walter")
    assert owners.split() == ["walter:walter", "walter:walter", "root:root", "walter:walter"]
    with pytest.raises(Refused, match="a user other than root decides where /home/walter leads"):
        converge(guest, [owned_file("/home/walter/root", "x\n"), file("/etc/drift/late", "x\n")], talk)
    assert machine.ssh("ls /etc/drift/late /home/walter/root 2>/dev/null || true") == ""


def test_failure_and_continue(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A failing step ends the run. The error names it and shows its output. The next run continues with it."""
    machine.ssh("rm -f /tmp/one /tmp/two /tmp/three /tmp/fixed")
    wanted = [
        make("one", "true"),
        make("two", "echo first words; echo last words >&2; test -e /tmp/fixed"),
        make("three", "true"),
    ]
    with pytest.raises(
        CommandFailed, match=r"two failed:\n    first words\n    last words\n  hint: "
    ) as caught:
        converge(guest, wanted, talk)
    assert "run the same command again" in (caught.value.hint or "")
    assert machine.ssh("cd /tmp; ls one two three 2>/dev/null || true") == "one\n"
    machine.ssh("touch /tmp/fixed")
    assert subjects(converge(guest, wanted, talk)) == ["two", "three"]


def test_no_effect(guest: Guest, talk: Talk) -> None:
    """A change that runs without an error but has no effect is a failure."""
    with pytest.raises(
        VerificationFailed,
        match="idle: the change ran without an error but had no effect: wanted there, found absent",
    ):
        converge(
            guest, [Step(subject="idle", probe="echo absent", wanted="there", apply=lambda _: "true")], talk
        )


def test_steps_are_apart(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A step's umask, folder, variables and exit do not reach the next one."""
    machine.ssh("rm -f /tmp/rude /tmp/polite")
    rude = make("rude", "umask 077; cd /etc; LEAK=1; export LEAK; trap 'true' EXIT")
    polite = make("polite", '[ "$(umask)" = 0022 ] && [ "$PWD" = / ] && [ -z "${LEAK-}" ]')
    assert len(converge(guest, [rude, polite], talk).changes) == 2


def test_any_error_in_a_step_counts(guest: Guest, talk: Talk) -> None:
    """A command that fails in the middle of a step ends it, and so does an unset variable."""
    for script in ("false; true", "echo $NOT_SET_ANYWHERE"):
        with pytest.raises(CommandFailed, match="shaky failed"):
            converge(guest, [make("shaky", script)], talk)


def test_refused_before_anything(machine: Machine, guest: Guest, talk: Talk) -> None:
    """If a step refuses, no step begins, and the error has every reason."""
    machine.ssh("rm -f /tmp/begun")
    no = check("no", "echo wrong", "right", lambda fact: f"it is {fact}")
    nor = check("nor", "echo worse", "right", lambda fact: f"it is {fact}")
    with pytest.raises(Refused, match="it is wrong; it is worse"):
        converge(guest, [make("begun", "true"), no, nor], talk)
    assert machine.ssh("ls /tmp").find("begun") == -1


def test_stated_twice(guest: Guest, talk: Talk) -> None:
    """Two steps for the same subject are refused."""
    with pytest.raises(Refused, match="file /etc/x is stated twice"):
        converge(guest, [file("/etc/x", "1"), file("/etc/x", "2")], talk)


def test_secrets(machine: Machine, guest: Guest, talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret appears in no output, error or plan, and on no command line of the host."""
    secret = "s3cr3t-Value-9f2"
    machine.ssh("rm -f /tmp/quiet /tmp/seen")
    hidden = file("/etc/secret", f"key={secret}\n", mode="600", hidden=(secret,))
    plan = converge(guest, [hidden], talk, plan_only=True)
    assert secret not in str(plan.to_json())
    assert "key=••••" in str(plan.to_json())
    converge(guest, [hidden], talk)
    # It looks for itself in all command lines; the brackets keep this pattern from matching its own.
    look = "if cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 's3cr3t-[V]alue-9f2'; then echo shown; exit 1; fi"
    look = f"key={secret}\n{look}\necho $key; exit 9"
    with pytest.raises(CommandFailed) as caught:
        converge(guest, [make("quiet", look, secrets=(secret,))], talk)
    assert "shown" not in str(caught.value)
    assert "••••" in str(caught.value)
    assert secret not in capsys.readouterr().err


def test_connection_killed(machine: Machine, guest: Guest, talk: Talk) -> None:
    """If the connection is killed, the running step finishes, no other begins, and the next run does the rest."""
    machine.ssh("rm -f /tmp/slow /tmp/next")
    parent = "pid=$(sed -n 's/^PPid:.//p' /proc/$pid/status)"
    kill = f"pid=$$; until grep -q '^Name:.sshd$' /proc/$pid/status; do {parent}; done; kill $pid"
    slow = make("slow", f"( {kill} )\nsleep 2\necho still at work\necho more")
    nextone = make("nextone", "true")
    with pytest.raises(ConnectionLost, match="the connection broke during slow"):
        converge(guest, [slow, nextone], talk, deadline=Deadline(120))
    # The next run waits for the step that is still running, finds it done, and goes on behind it.
    assert subjects(converge(guest, [slow, nextone], talk, deadline=Deadline(120))) == ["nextone"]


def test_cable_pulled(machine: Machine, guest: Guest, talk: Talk) -> None:
    """An unplugged cable is detected. Once it is plugged in again, the next run does the rest."""
    machine.ssh("rm -f /tmp/pulled /tmp/after")
    wanted = [make("pulled", "echo now; sleep 3"), make("after", "true", after=("pulled",))]

    class Puller(type(talk)):  # type: ignore[misc]
        """Unplug the cable when the first step begins."""

        def step(self, text: str, *, silent: bool = False):  # type: ignore[no-untyped-def]  # noqa: ANN202
            machine.cable(plugged=False)
            return super().step(text, silent=silent)

    try:
        with pytest.raises(ConnectionLost):
            converge(guest, wanted, Puller(talk.screen), deadline=Deadline(120))
    finally:
        machine.cable(plugged=True)
    machine.wait()
    assert subjects(converge(guest, wanted, talk, deadline=Deadline(120)))[-1] == "after"
    assert not converge(guest, wanted, talk)


def test_reboot_in_a_step(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A reboot during a run is a lost connection, and the next run does the rest."""
    wanted = [
        file("/etc/reboot/one", "1\n"),
        make("../root/rebooted", "systemctl reboot; sleep 60"),
        file("/etc/reboot/two", "2\n", after=("../root/rebooted",)),
    ]
    with pytest.raises(ConnectionLost):
        converge(guest, wanted, talk, deadline=Deadline(120))
    machine.after_reboot()
    machine.ssh("touch /root/rebooted")
    assert subjects(converge(guest, wanted, talk)) == ["file /etc/reboot/two"]


def test_disk_full(machine: Machine, guest: Guest, talk: Talk) -> None:
    """With the disk full, the old file stays and no temporary file is left. With space, the next run succeeds."""
    machine.ssh("mkdir -p /mnt/small; mount -t tmpfs -o size=64k tmpfs /mnt/small")
    small, large = file("/mnt/small/file", "old\n"), file("/mnt/small/file", "new\n" * 50_000)
    converge(guest, [small], talk)
    with pytest.raises(CommandFailed, match="No space left on device"):
        converge(guest, [large], talk)
    assert machine.ssh("cat /mnt/small/file; ls -A /mnt/small") == "old\nfile\n"
    machine.ssh("mount -o remount,size=1m /mnt/small")
    assert subjects(converge(guest, [large], talk)) == ["file /mnt/small/file"]


def test_a_missed_restart(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A service whose restart was missed after a change of its file is restarted by the next run."""
    path = "/etc/systemd/system/stale.service"

    def wanted(text: str) -> list[Step]:
        return [file(path, text), unit("stale.service", config=(path,), reacts_to=(f"file {path}",))]

    converge(guest, wanted(UNIT), talk)
    newer = UNIT.replace("infinity", "1000000")
    converge(guest, wanted(newer)[:1], talk)  # as if the run had ended here
    assert subjects(converge(guest, wanted(newer), talk)) == ["unit stale.service"]
    assert machine.ssh("systemctl show -p ExecStart stale.service").find("1000000") > 0
    assert (
        machine.ssh("tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value stale.service)/cmdline")
        == "/bin/sleep 1000000 "
    )


def test_a_service_that_dies(guest: Guest, talk: Talk) -> None:
    """A service that starts and exits at once is a failure that shows its journal."""
    path = "/etc/systemd/system/dying.service"
    text = UNIT.replace("/bin/sleep infinity", "/bin/sh -c 'echo bad setting in line 7; exit 3'")
    with pytest.raises(CommandFailed, match=r"(?s)unit dying.service failed.*bad setting in line 7"):
        converge(guest, [file(path, text), unit("dying.service", reacts_to=(f"file {path}",))], talk)


def test_through_sudo(machine: Machine, talk: Talk) -> None:
    """Everything works through sudo for a login that is not root."""
    guest = Guest(machine.login("helper", "helper ALL=(ALL) NOPASSWD: ALL"), machine.alias)
    wanted = [
        file("/etc/by-sudo", NASTY, mode="600"),
        command("a file of root's", "touch /root/by-sudo", unless="test -e /root/by-sudo"),
    ]
    assert len(converge(guest, wanted, talk).changes) == 2
    assert not converge(guest, wanted, talk)
    assert machine.ssh("stat -c %U /etc/by-sudo /root/by-sudo") == "root\nroot\n"
