"""Ctrl-C in each phase of `inv upgrade`: what is left, what is said, and what the next run does.

The decisions and the note are the real ones. What would reach a guest is a list of phases, one of which is interrupted.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from swarm import history
from swarm.backup import now
from swarm.commands import upgrade as commands
from swarm.commands import vm
from swarm.console import Screen, Talk
from swarm.errors import CommandFailed, Refused, VerificationFailed
from swarm.fleet import parts, unfinished, upgrade, wayback
from swarm.fleet.remove import remove
from swarm.guest import verify
from swarm.guest.suite import Check
from swarm.inventory import load
from swarm.paths import ROOT, hosts_dir
from swarm.plan import Change, Plan
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from swarm.fleet.verdict import Report
    from tests.conftest import Dirs

RECORD = "version 2026.9.5\nchannel latest\n"
RELEASE = Change("update", "OpenClaw release", "2026.9.5 → 2026.9.6", "channel latest")
BACK = ["program", "state", "gateway", "verify old"]


class Guest:
    """What the phases reach. `at` is interrupted, or fails with the given error; `worse`: the new version is broken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.phases: list[str] = []
        self.at, self.error, self.worse = "", BaseException(), False
        put = monkeypatch.setattr
        put(parts, "connect", lambda _: nullcontext(SimpleNamespace(link=None)))
        put(parts, "source", lambda *_: None)
        put(parts, "link", lambda _: None)
        put(parts, "versions", lambda *_: ("2026.9.5", RECORD))
        put(parts, "installing_all", self.install)
        put(now, "back_up", self.back_up)
        put(verify, "verify", self.verify)
        for phase, name in zip(
            BACK, ("install_old", "restore_state", "start_gateway", "check_promises"), strict=True
        ):
            put(wayback, name, self.entering(phase))

    def enter(self, phase: str) -> None:
        """Note a phase, or end in it."""
        self.phases.append(phase)
        if phase == self.at:
            self.at = ""
            raise self.error

    def entering(self, name: str) -> Callable[..., None]:
        """Return a function that enters a phase."""
        return lambda *_: self.enter(name)

    def install(self, *_: object, plan_only: bool = False, **__: object) -> Plan:
        """Install, or say what that would change."""
        if not plan_only:
            self.enter("install")
        return Plan("zap", (RELEASE,))

    def back_up(self, *_: object) -> SimpleNamespace:
        """Back up."""
        self.enter("backup")
        return SimpleNamespace(errors=[], summary="ok", archive="zap-1.tar.zst", current=None)

    def verify(self, *_: object) -> SimpleNamespace:
        """Test the promises. Before the backup, all are kept."""
        if "backup" in self.phases or unfinished.load("zap"):
            self.enter("verify")
            return SimpleNamespace(checks=[Check("x", "broken" if self.worse else "kept", "", "OpenClaw")])
        return SimpleNamespace(checks=[])

    def run(self, *, plan_only: bool = False) -> Report:
        """Run `inv upgrade --host zap --yes`."""
        self.phases.clear()
        return upgrade.upgrade(load("zap"), Talk(Screen()), plan_only=plan_only, yes=True, limit=60)

    def interrupt(self, phase: str) -> None:
        """Run, with Ctrl-C in a phase."""
        self.at, self.error = phase, KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            self.run()


@pytest.fixture
def guest(dirs: Any, monkeypatch: pytest.MonkeyPatch) -> Guest:  # noqa: ANN401, ARG001 - own folders
    """The host zap, whose newest OpenClaw is a version ahead."""
    samples.write()
    return Guest(monkeypatch)


def test_during_the_backup(guest: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is unfinished, and that is said. The next run begins from the start."""
    guest.interrupt("backup")
    assert "interrupted during the backup; nothing was upgraded" in capsys.readouterr().err
    assert unfinished.load("zap") is None
    assert guest.run().changed
    assert guest.phases == ["backup", "install", "verify"]


@pytest.mark.parametrize("phase", ["install", "verify"])
def test_during_the_installation_or_its_verification(
    guest: Guest, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ways on are named. The next run says what is unfinished, and completes it without another backup."""
    guest.interrupt(phase)
    said = capsys.readouterr().err
    assert "./inv upgrade --host zap completes it, and ./inv upgrade --host zap --back puts OpenClaw" in said
    assert guest.run(plan_only=True).planned
    assert guest.phases == []
    assert guest.run().changed
    assert "an upgrade 2026.9.5 → 2026.9.6 was interrupted; this completes it" in capsys.readouterr().err
    assert guest.phases == ["install", "verify"]
    assert unfinished.load("zap") is None
    assert [each["result"] for each in history.entries("zap", "upgrade")] == ["upgraded"]


def test_an_interrupted_upgrade_can_be_undone(guest: Guest) -> None:
    """--back after Ctrl-C in the installation goes the whole way back, and leaves nothing unfinished."""
    guest.interrupt("install")
    guest.phases.clear()
    assert upgrade.back(load("zap"), Talk(Screen()), yes=True).went_back
    assert guest.phases == BACK
    assert unfinished.load("zap") is None


def test_the_question_says_how_old_the_backup_is(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever completes an upgrade weeks later, or undoes it, is told that the state of that time would come back."""
    guest.interrupt("install")
    note = unfinished.load("zap")
    assert note
    unfinished.save("zap", replace(note, backup=1789182000.0))
    asked: list[str] = []
    monkeypatch.setattr(Talk, "ask", lambda _, text: asked.append(text))
    capsys.readouterr()
    with pytest.raises(Refused, match="nothing was changed"):
        upgrade.upgrade(load("zap"), Talk(Screen()), plan_only=False, yes=False, limit=60)
    with pytest.raises(Refused, match="nothing was changed"):
        upgrade.back(load("zap"), Talk(Screen()), yes=False)
    forward, back = asked
    assert forward.startswith(
        "Upgrade 2026.9.5 → 2026.9.6, and put the old version and the state of 2026-09-12 "
    )
    assert back == "Put OpenClaw 2026.9.5 and its state of 2026-09-12 03:00 UTC, before the upgrade, back?"
    said = capsys.readouterr().err
    assert "this completes it, with the backup of 2026-09-12 03:00 UTC" in said
    assert "no other backup is made; if the installation fails" in said


@pytest.mark.parametrize("phase", BACK)
def test_on_the_way_back(guest: Guest, phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The next run says what is unfinished and why, and goes the way back again, without installing what had failed."""
    guest.worse = True
    guest.interrupt(phase)
    said = capsys.readouterr().err
    assert "the way back to OpenClaw 2026.9.5 was interrupted" in said
    assert "./inv upgrade --host zap goes on with it" in said
    planned = guest.run(plan_only=True)
    assert (planned.summary, guest.phases) == ("would put OpenClaw 2026.9.5 and its state back", [])
    assert guest.run().went_back
    said = capsys.readouterr().err
    assert "were being put back (a promise broke: x); this goes on with the way back" in said
    assert guest.phases == BACK
    assert unfinished.load("zap") is None
    assert [each["result"] for each in history.entries("zap", "upgrade")] == ["went back"]


def test_a_way_back_that_fails_leaves_both_ways_open(guest: Guest) -> None:
    """After a way back that failed, --back goes on with it. The same command without it tries the upgrade again."""
    guest.worse, guest.at, guest.error = True, "state", CommandFailed("zap: full disk")
    with pytest.raises(VerificationFailed, match="which stopped at: restore the state: full disk"):
        guest.run()
    guest.worse = False
    assert guest.run().summary == "upgraded 2026.9.5 → 2026.9.6"
    assert guest.phases == ["install", "verify"]


def test_the_way_back_of_several_hosts(guest: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    """Hosts without an unfinished upgrade don't keep the others from going back. Alone, such a host is refused."""
    demo = (ROOT / "hosts/demo.yaml").read_text("utf-8")
    (hosts_dir() / "ant.yaml").write_text(demo.replace("demo", "ant"), encoding="utf-8")
    guest.interrupt("install")
    guest.phases.clear()

    def back(words: str) -> int:
        return commands.upgrade(words, plan_only=False, yes=True, back=True, limit=60, as_json=False)

    assert back("ant") == 1
    assert "ant: no upgrade is unfinished, so there is nothing to go back to" in capsys.readouterr().err
    assert back("ant,zap") == 0
    assert guest.phases == BACK
    assert unfinished.load("zap") is None


@pytest.mark.parametrize("verb", ["remove", "destroy"])
def test_an_unfinished_upgrade_goes_with_its_machine(
    dirs: Dirs, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later machine of the name can complete it with the archive of another one, which is named; a plan keeps it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(dirs.state))
    (dirs.hosts / "demo.yaml").write_text((ROOT / "hosts/demo.yaml").read_text("utf-8"), encoding="utf-8")
    note = unfinished.Unfinished("1", "2", "", "demo-1.tar.zst", 1.0, ())

    def run(*, plan_only: bool) -> None:
        if verb == "remove":
            assert remove("demo", Talk(Screen()), plan_only=plan_only, yes=True)
        else:
            assert vm.destroy("demo", plan_only=plan_only, as_json=False, yes=True) == 0

    unfinished.save("demo", note)
    run(plan_only=True)
    assert unfinished.load("demo") == note
    run(plan_only=False)
    assert unfinished.load("demo") is None
    assert (
        "the archive demo-1.tar.zst has the state of 1970-01-01 00:00 UTC, before it"
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("dirs")
def test_a_note_that_removed_hosts_have_left_goes_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A damaged note without a host file is found and removed, and a second run has nothing to do."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    unfinished.path("bee").write_text("{", encoding="utf-8")
    assert remove("bee", Talk(Screen()), plan_only=False, yes=True)
    assert unfinished.load("bee") is None
    assert not remove("bee", Talk(Screen()), plan_only=False, yes=True)
