"""Waiting for a guest ends as soon as it can. A failure names the rung and quotes the guest's console."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from swarm.errors import CommandFailed, SwarmError, Unreachable, VerificationFailed
from swarm.ssh.reasons import ConnectionLost, KeyRefused, LoginRefused, NoAnswer, PortClosed
from swarm.vm.ladder import wait_for_guest
from tests.unit.ladders import CONSOLE, DONE, ladder_of, notes, talk

RUNGS = [
    "domain running",
    "SSH port open",
    "pinned host key shown",
    "login",
    "cloud-init done",
    "share mounted",
]
NOT_YET = (PortClosed("no"), NoAnswer("no"), ConnectionLost("no"), Unreachable("no"), CommandFailed("no"))


def test_every_rung_is_reached_in_order_and_shown() -> None:
    """Each rung that is reached is one line with its time, and the times never decrease."""
    speaker, log = talk()
    ladder, guest = ladder_of("", "", DONE, "virtiofs\n")
    rungs = wait_for_guest(ladder, speaker)
    assert [rung.name for rung in rungs] == RUNGS
    assert [rung.after for rung in rungs] == sorted(rung.after for rung in rungs)
    assert re.findall(r"✓ (.*) [\d.]+ s", log.getvalue()) == RUNGS
    assert [command for command, _ in guest.asked[:2]] == ["true", "true"]
    assert "/run/cloud-init" in guest.asked[2][0]
    assert "result.json" in guest.asked[2][0]
    assert "status.json" in guest.asked[2][0]
    assert guest.renewed == 1
    assert guest.asked[3][0] == "findmnt --noheadings --output FSTYPE --mountpoint /mnt/swarm"


def test_without_a_share_nothing_waits_for_it() -> None:
    """The last rung exists only for a host with a share."""
    ladder, _ = ladder_of(share=None)
    assert [name for name, _ in ladder.rungs()] == RUNGS[:-1]
    assert ladder.mounted(notes()[0]) is True


def test_cloud_init_counts_at_the_first_boot_only() -> None:
    """A later boot does not ask for cloud-init, which may be gone by then, or remember an old error."""
    ladder, guest = ladder_of("", "", "virtiofs\n", first_boot=False)
    rungs = wait_for_guest(ladder, talk()[0])
    assert [rung.name for rung in rungs] == [name for name in RUNGS if name != "cloud-init done"]
    assert not any("cloud-init" in command for command, _ in guest.asked)


HINTS = {
    "domain running": "the hypervisor does not start it: ./inv doctor",
    "SSH port open": "a slow machine needs more time (--timeout SECONDS); run the command again to continue",
    "login": "a slow machine needs more time (--timeout SECONDS); run the command again to continue",
    "cloud-init done": "./inv ssh --host zap -- cloud-init status --long",
    "share mounted": "./inv ssh --host zap -- journalctl -b -u '*.mount'",
}
STUCK: dict[str, tuple[list[str | SwarmError], str]] = {
    "domain running": ([""], "stopped"),
    "SSH port open": ([NoAnswer("no")], "running"),
    "login": ([LoginRefused("no")], "running"),
    "cloud-init done": ([""], "running"),
    "share mounted": (["", "", DONE, "\n"], "running"),
}


@pytest.mark.parametrize("name", HINTS)
def test_a_rung_that_is_not_reached_is_named(name: str) -> None:
    """When the time is up, the error names the rung and the limit, quotes six lines of the console and gives a hint."""
    speaker, log = talk()
    answers, state = STUCK[name]
    ladder, _ = ladder_of(*answers, state=lambda: state, limit=0.01)
    with pytest.raises(Unreachable) as caught:
        wait_for_guest(ladder, speaker)
    tail = "".join(f"\n    {line}" for line in CONSOLE[-6:])
    expected = f"zap: {name!r} was not reached within 0 s\n  the console's last lines:{tail}"
    assert caught.value.message == expected
    assert caught.value.hint == HINTS[name]
    assert re.findall(r"✓ (.*) [\d.]+ s", log.getvalue()) == RUNGS[: RUNGS.index(name)]


@pytest.mark.parametrize("state", ["stopped", "crashed", "shutting-down", "suspended"])
def test_a_vm_that_stops_ends_the_wait_at_once(state: str) -> None:
    """The wait ends when the VM stops running."""
    states = iter(["running"])
    ladder, _ = ladder_of(PortClosed("no"), state=lambda: next(states, state))
    with pytest.raises(Unreachable) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message.startswith(f"zap: gave up waiting for 'SSH port open': the VM is {state}\n")
    assert "line 9" in caught.value.message
    assert caught.value.hint == "./inv console --host zap shows its last output"


def test_a_crashed_kernel_ends_the_wait_at_once() -> None:
    """A kernel that has crashed, and will not restart by itself, is reported with what it said."""
    said = "---[ end Kernel panic - not syncing: IO-APIC + timer doesn't work! ]---"
    ladder, _ = ladder_of(PortClosed("no"), console=["[    0.056000]  </TASK>", f"[    0.056000] {said}"])
    with pytest.raises(Unreachable) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message.startswith("zap: the guest's kernel has crashed\n  the console's last lines:")
    assert said in caught.value.message
    assert caught.value.hint == "./inv stop --host zap --force, then ./inv start --host zap"


def test_a_kernel_that_restarts_after_a_crash_is_waited_for() -> None:
    """A kernel that says that it will restart, and one that has restarted, are waited for."""
    end = "---[ end Kernel panic - not syncing: hung_task ]---"
    for last in ("Rebooting in 10 seconds..", "Linux version 6.1"):
        ladder, _ = ladder_of("", "", DONE, share=None, console=[end, last])
        assert len(wait_for_guest(ladder, talk()[0])) == 5


def test_a_paused_vm_is_waited_for() -> None:
    """A VM that is paused may be resumed, so only the deadline ends the wait. The error says what to do about it."""
    states = iter(["running"])
    ladder, _ = ladder_of(PortClosed("no"), state=lambda: next(states, "paused"), limit=0)
    with pytest.raises(Unreachable, match="was not reached within 0 s: the VM is paused") as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.hint == (
        "QEMU pauses a VM when the hypervisor's disk is full: free some space there, "
        "then ./inv start --host zap resumes it"
    )


def test_a_domain_that_is_about_to_start_is_waited_for() -> None:
    """Before the first rung, every state means "not yet"."""
    states = iter(["stopped", "stopped", "running"])
    ladder, _ = ladder_of("", "", DONE, share=None, state=lambda: next(states))
    assert len(wait_for_guest(ladder, talk()[0])) == 5


def test_a_domain_that_dies_before_the_first_rung_ends_the_wait() -> None:
    """If a started domain does not run, the wait ends before the deadline."""
    ladder, _ = ladder_of(state=lambda: "crashed", starting=0)
    with pytest.raises(Unreachable, match="zap: gave up waiting for 'domain running': the VM is crashed"):
        wait_for_guest(ladder, talk()[0])


def test_another_host_key_ends_the_wait_at_once() -> None:
    """The error for another host key passes through unchanged, with the console's last lines."""
    ladder, _ = ladder_of(KeyRefused("zap: other key", "find out"))
    with pytest.raises(KeyRefused) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message.splitlines()[0] == "zap: other key"
    assert "line 9" in caught.value.message
    assert caught.value.hint == "find out"


def test_cloud_inits_own_error_ends_the_wait_at_once() -> None:
    """The message is the first error that cloud-init reports."""
    answer = json.dumps({"v1": {"errors": ["no such module", "more"]}})
    ladder, _ = ladder_of("", answer, share=None)
    with pytest.raises(VerificationFailed) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message.splitlines()[0] == "cloud-init in zap failed: no such module"
    assert caught.value.hint == "./inv ssh --host zap -- cloud-init status --long"


def test_a_guests_long_lines_are_cut() -> None:
    """What cloud-init and the console say takes a few lines of an error, however long it is."""
    answer = json.dumps({"v1": {"errors": ["x" * 60_000]}})
    ladder, _ = ladder_of("", answer, share=None, console=["y" * 16_000])
    with pytest.raises(VerificationFailed) as caught:
        wait_for_guest(ladder, talk()[0])
    assert f"failed: {'x' * 300}…\n" in caught.value.message
    assert caught.value.message.endswith(f"    {'y' * 300}…")


def test_a_silent_console_adds_nothing() -> None:
    """Without console lines the error is just the message."""
    ladder, _ = ladder_of(NoAnswer("no"), console=[], limit=0)
    with pytest.raises(Unreachable) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message == "zap: 'SSH port open' was not reached within 0 s"


def test_the_domain_must_run() -> None:
    """Only "running" counts, and the note names what the rung waits for."""
    states = iter(["stopped", "paused", "running"])
    ladder, _ = ladder_of(state=lambda: next(states))
    meter, said = notes()
    assert [ladder.running(meter) for _ in range(3)] == [False, False, True]
    assert said == ["waiting for the hypervisor"] * 3


@pytest.mark.parametrize("error", NOT_YET, ids=lambda error: type(error).__name__)
def test_a_port_without_an_ssh_server_is_not_open(error: SwarmError) -> None:
    """An incomplete handshake means "not yet". Meanwhile the console's last line is shown."""
    ladder, guest = ladder_of(error, console=["first", "x" * 100])
    meter, said = notes()
    assert ladder.port(meter) is False
    assert said == ["x" * 60]
    assert guest.asked == [("true", 30)]


def test_a_silent_console_shows_no_note() -> None:
    """Without console lines there is no note."""
    ladder, _ = ladder_of(console=[])
    meter, said = notes()
    assert ladder.port(meter) is True
    assert said == []


@pytest.mark.parametrize("refusal", [KeyRefused("no"), LoginRefused("no")])
def test_a_server_that_refuses_is_an_open_port(refusal: SwarmError) -> None:
    """The port's rung leaves a refused key or login to the next rungs."""
    ladder, _ = ladder_of(refusal)
    assert ladder.port(notes()[0]) is True


def test_the_key_rung_reports_what_the_handshake_met() -> None:
    """One handshake serves three rungs: the key's rung does not repeat it."""
    meter, said = notes()
    ladder, guest = ladder_of("")
    assert ladder.key(meter) is True
    ladder, guest = ladder_of(LoginRefused("no"))
    assert ladder.port(meter) is True
    assert ladder.key(meter) is True
    ladder, guest = ladder_of(KeyRefused("no"))
    assert ladder.port(meter) is True
    with pytest.raises(KeyRefused):
        ladder.key(meter)
    assert len(guest.asked) == 1
    assert said.count("checking the host key") == 3


def test_a_refused_login_counts_as_the_first_attempt() -> None:
    """The login's rung reuses the refusal that the port's rung received. The next attempt logs in."""
    ladder, guest = ladder_of(LoginRefused("no"), "")
    meter, said = notes()
    assert ladder.port(meter) is True
    assert ladder.login(meter) is False
    assert len(guest.asked) == 1
    assert ladder.login(meter) is True
    assert len(guest.asked) == 2
    assert said[1:] == ["logging in as root"] * 2


@pytest.mark.parametrize("error", [*NOT_YET, LoginRefused("no")], ids=lambda error: type(error).__name__)
def test_a_login_that_fails_is_tried_again(error: SwarmError) -> None:
    """A refused login is retried, since the guest may still be writing its keys or restarting its server."""
    ladder, _ = ladder_of(error)
    assert ladder.login(notes()[0]) is False


def test_a_login_meets_another_key() -> None:
    """A key that changes between two attempts ends the wait."""
    ladder, _ = ladder_of(KeyRefused("no"))
    with pytest.raises(KeyRefused):
        ladder.login(notes()[0])


def test_a_login_is_refused_only_for_so_long() -> None:
    """When refused logins have been retried long enough, the error names the key to load."""
    ladder, _ = ladder_of(LoginRefused("no"), patience=0)
    with pytest.raises(LoginRefused) as caught:
        wait_for_guest(ladder, talk()[0])
    assert caught.value.message.startswith("zap: the guest refuses the login as root\n")
    assert caught.value.hint
    assert "ssh-add" in caught.value.hint


@pytest.mark.parametrize("limit", [0.0, 5.0, 3600.0])
def test_no_wait_is_longer_than_what_is_left(limit: float) -> None:
    """A command's timeout is the smaller of its own limit and the time left, and at least one second."""
    ladder, guest = ladder_of("", limit=limit)
    ladder.login(notes()[0])
    ladder.cloud_init(notes()[0])
    (_, login), (_, ask) = guest.asked
    assert login == pytest.approx(max(1.0, min(30.0, limit)), abs=0.5)
    assert ask == pytest.approx(max(1.0, min(20.0, limit)), abs=0.5)


@pytest.mark.parametrize("error", [*NOT_YET, LoginRefused("no")], ids=lambda error: type(error).__name__)
def test_a_broken_connection_is_opened_again(error: SwarmError) -> None:
    """A connection that breaks is retried, since sshd may restart during the first boot."""
    ladder, _ = ladder_of(error, DONE)
    meter, said = notes()
    assert [ladder.cloud_init(meter) for _ in range(2)] == [False, True]
    assert said == []
    ladder, _ = ladder_of(error, "virtiofs\n")
    assert [ladder.mounted(meter) for _ in range(2)] == [False, True]
    assert said == ["waiting for /mnt/swarm"] * 2


def test_another_key_is_reported_also_later() -> None:
    """A changed key is never reported as a broken connection."""
    ladder, _ = ladder_of(KeyRefused("no"))
    for attempt in (ladder.cloud_init, ladder.mounted):
        with pytest.raises(KeyRefused):
            attempt(notes()[0])


@pytest.mark.parametrize("kind", ["", "ext4\n", "virtiofs", "VIRTIOFS\n", "virtiofs\nvirtiofs\n"])
def test_only_virtiofs_counts_as_mounted(kind: str) -> None:
    """Another file system at the mount point is not the share."""
    ladder, _ = ladder_of(kind)
    assert ladder.mounted(notes()[0]) is False


@pytest.mark.parametrize(
    ("stage", "note"), [("", "cloud-init: starting"), ("modules", "cloud-init: modules")]
)
def test_the_stage_of_cloud_init_is_shown(stage: str, note: str) -> None:
    """While cloud-init works, the note names its stage."""
    ladder, _ = ladder_of("\n" + json.dumps({"v1": {"stage": stage}}))
    meter, said = notes()
    assert ladder.cloud_init(meter) is False
    assert said == [note]


def test_the_rungs_are_the_ladders_own_methods() -> None:
    """Each name leads to the attempt of that rung."""
    ladder, _ = ladder_of()
    names = {attempt.__name__ if not isinstance(attempt, partial) else "" for _, attempt in ladder.rungs()}
    assert names == {"running", "port", "key", "login", "cloud_init", "mounted"}
