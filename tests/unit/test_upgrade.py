"""`inv upgrade`: what it decides, what it says, and what it refuses before it reaches a guest."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.commands import upgrade as command
from swarm.errors import CommandFailed, Refused, UsageError
from swarm.fleet import unfinished, verdict, wayback
from swarm.fleet.unfinished import Unfinished
from swarm.fleet.verdict import Route
from swarm.guest.engine.script import prelude
from swarm.guest.install import openclaw
from swarm.guest.kinds.npm import pnpm_global
from swarm.guest.suite import Check, Result
from swarm.inventory import InstallSettings, load
from swarm.paths import ROOT
from swarm.plan import Change, Plan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

RECORD = "version 2026.9.5\nchannel latest\n"
ROUTE = Route("2026.9.5", "2026.9.6")
NOTE = Unfinished("2026.9.5", "2026.9.6", RECORD, "ant-1.tar.zst", 12.5, ("The swap is off.",))


@pytest.fixture
def hosts(dirs: Dirs) -> Dirs:
    """Two hosts without a pinned key, so that no guest can be reached."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(("ant", "bee")):
        own = text.replace("demo", name).replace("de:30", f"de:4{number}").replace("122.30", f"122.4{number}")
        (dirs.hosts / f"{name}.yaml").write_text(own, encoding="utf-8")
    return dirs


def check(text: str, result: Result) -> Check:
    """A check of verify's."""
    return Check(text, result, "", "OpenClaw")


def run(words: str, *, plan_only: bool = False, back: bool = False) -> int:
    """Call the command as `inv upgrade --yes` does."""
    return command.upgrade(words, plan_only=plan_only, yes=True, back=back, limit=60, as_json=False)


@pytest.mark.parametrize(
    ("shown", "new"),
    [
        ("2026.9.5 → 2026.9.6", "2026.9.6"),
        ("2026.9.6-beta.1", "2026.9.6-beta.1"),
        ("2026.9.5 → $(rm -rf /)", "2026.9.5"),
        (None, "2026.9.5"),
    ],
)
def test_the_new_version_is_what_the_registry_offers(shown: str | None, new: str) -> None:
    """The plan's release step names it; text that is no version is not taken for one."""
    plan = Plan("ant", (Change("update", "OpenClaw release", shown, "channel latest"),))
    assert verdict.route("2026.9.5", RECORD, plan) == Route("2026.9.5", new)


def test_a_plan_of_packages_alone_keeps_the_version() -> None:
    """If only packages change, nothing pretends that OpenClaw is upgraded."""
    found = verdict.route("2026.9.5", RECORD, Plan("ant", (Change("update", "tools"),)))
    assert found.old == found.new
    assert "upgrade packages, with OpenClaw 2026.9.5, and put" in verdict.question(found)
    assert verdict.question(ROUTE) == (
        "Back up, upgrade 2026.9.5 → 2026.9.6, and put the old version and state back if a promise breaks?"
    )


def test_an_installation_that_was_cut_off_goes_to_the_recorded_version() -> None:
    """If the record is ahead of what is installed, the upgrade leads from the installed version to the recorded one."""
    assert verdict.route(
        "2026.9.4", RECORD, Plan("ant", (Change("update", "pnpm package openclaw"),))
    ) == Route("2026.9.4", "2026.9.5")


@pytest.mark.parametrize(
    ("record", "installed", "wanted"),
    [
        (RECORD, "2026.9.5", RECORD),
        (RECORD, "2026.9.4", "version 2026.9.4\nchannel latest\n"),
        ("", "2026.9.4", "version 2026.9.4\npinned\n"),
        (f"{RECORD}integrity sha512-a\n", "2026.9.4", "version 2026.9.4\nchannel latest\n"),
    ],
)
def test_the_record_goes_back_as_it_was(record: str, installed: str, wanted: str) -> None:
    """The text is the same, byte for byte, unless the installed version is another than the recorded one."""
    assert verdict.record_for(record, installed) == wanted
    assert verdict.recorded(wanted) == installed


def test_only_promises_that_were_kept_count() -> None:
    """A promise that was broken before, and one that is skipped, are no reason to go back."""
    checks = [check("a", "broken"), check("b", "broken"), check("c", "skipped"), check("d", "kept")]
    assert verdict.newly_broken(("a",), checks) == ("b",)
    assert verdict.newly_broken(("a", "b"), checks) == ()
    assert verdict.reason(("b.",)) == "a promise broke: b"
    assert verdict.reason(tuple("abcde")) == "promises broke: a; b; c; and 2 more"


@pytest.mark.parametrize(
    ("pinned", "hint"),
    [
        (
            None,
            './inv install keeps 2026.9.5; with openclaw.version: "2026.9.5" in hosts/ant.yaml, upgrades do too',
        ),
        (
            "2026.9.6",
            'the host file asks for 2026.9.6; write openclaw.version: "2026.9.5" in hosts/ant.yaml, or',
        ),
    ],
)
def test_the_error_says_what_is_back_and_how_to_stay_there(pinned: str | None, hint: str) -> None:
    """One sentence tells what failed and what is back; the hint shows the line that pins the old version."""
    error = verdict.outcome("ant", ROUTE, "a promise broke: x", pinned)
    assert error.exit_code == 1
    assert error.message == (
        "ant: the upgrade to 2026.9.6 failed, and OpenClaw 2026.9.5 and its state are back: a promise broke: x"
    )
    assert hint in (error.hint or "")


def test_a_way_back_that_fails_names_its_phase_and_the_command() -> None:
    """The error has the reason for going back, the phase that failed, its cause, and the command that goes on."""
    error = verdict.stuck(
        "ant", ROUTE, "no gateway", "restore the state", CommandFailed("ant: full disk", "free space")
    )
    assert "(no gateway)" in error.message
    assert "the way back to 2026.9.5, which stopped at: restore the state: full disk" in error.message
    assert error.hint == "free space; then ./inv upgrade --host ant --back goes on from there"


def test_another_error_becomes_a_part_of_the_sentence() -> None:
    """It is one line of bounded length, without the host's name, which the sentence has already."""
    assert verdict.cause("ant", CommandFailed("ant: step failed:\n    line 1\n    line 2")) == (
        "step failed: line 1 line 2"
    )
    assert len(verdict.cause("ant", CommandFailed("x" * 5000))) == 400


def test_ctrl_c_names_both_ways_on() -> None:
    """One command completes the upgrade, another one undoes it."""
    said = verdict.interrupted("ant", ROUTE)
    assert "./inv upgrade --host ant completes it" in said
    assert "./inv upgrade --host ant --back puts OpenClaw 2026.9.5" in said


def test_the_note_survives_a_power_cut(dirs: Dirs) -> None:
    """What was noted is read back by the next run, until it is cleared; only its owner can read it."""
    assert unfinished.load("ant") is None
    unfinished.save("ant", NOTE)
    assert unfinished.load("ant") == NOTE
    path = dirs.state / "upgrade" / "ant.json"
    assert path.stat().st_mode & 0o777 == 0o600
    unfinished.clear("ant")
    assert unfinished.load("ant") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"broken": 1}', '{"broken": [], "old": "1"}'])
def test_a_damaged_note_is_one_sentence(dirs: Dirs, text: str) -> None:
    """A note that can't be read stops the upgrade and names the file."""
    unfinished.save("ant", NOTE)
    (dirs.state / "upgrade" / "ant.json").write_text(text)
    with pytest.raises(Refused, match=r"can't be read: .*ant\.json"):
        unfinished.load("ant")


def test_one_upgrade_of_a_host_at_a_time(dirs: Dirs) -> None:
    """A second upgrade of the same host is refused; one of another host is not."""
    assert dirs
    with (
        unfinished.alone("ant"),
        unfinished.alone("bee"),
        pytest.raises(Refused, match="another upgrade of ant"),
    ):
        unfinished.alone("ant").__enter__()


def test_going_back_needs_no_registry_to_know_the_version(hosts: Dirs) -> None:
    """The step that brings the old version waits for no other, and takes the version from the record alone."""
    assert hosts
    step = wayback.program(wayback.pinned(load("ant"), "2026.9.5"))
    assert (step.after, step.reacts_to) == ((), ())
    assert "openclaw@2026.9.5" in (step.apply("2026.9.6\n2026.9.5\nnone\nnone") or "")
    assert step.apply("2026.9.5\n2026.9.5\nnone\nnone") is None


@pytest.mark.parametrize("content", ['{"version":"2026.9.6"}', "", None])
def test_a_damaged_package_is_replaced(tmp_path: Path, content: str | None) -> None:
    """A program whose package.json is missing, or has no version in the usual place, is installed again."""
    home, package, record = tmp_path / "home", tmp_path / "package", tmp_path / "record"
    shim = home / ".local/share/pnpm/bin/openclaw"
    shim.parent.mkdir(parents=True)
    package.mkdir()
    shim.write_text(f"# cmd-shim-target={package}/openclaw.mjs\n")
    record.write_text(RECORD)
    if content is not None:
        (package / "package.json").write_text(content)
    step = pnpm_global("zed", "openclaw", str(home), str(record))
    done = subprocess.run(
        ["sh", "-eu"], input=f"{prelude()}{step.probe}", capture_output=True, text=True, check=True
    )
    assert "openclaw@2026.9.5" in (step.apply(done.stdout.rstrip("\n")) or "")


def test_a_checkout_is_refused(hosts: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """install_mode development has no way back, and the hint is the command that upgrades it without one."""
    path = hosts.hosts / "ant.yaml"
    path.write_text(path.read_text().replace("openclaw:\n", "openclaw:\n  install_mode: development\n"))
    assert run("ant") == 1
    assert "./inv install --host ant --upgrade" in capsys.readouterr().err


def test_hosts_stop_at_the_first_failure(hosts: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """After a failure no further host is touched, and those are named. A plan looks at all of them."""
    assert hosts
    assert run("ant,bee") == 1
    told = capsys.readouterr().err
    assert "stopped at the first failure; not upgraded: bee" in told
    assert "bee has no pinned host key" not in told
    assert run("ant,bee", plan_only=True) == 1
    assert "bee has no pinned host key" in capsys.readouterr().err


def test_there_is_nothing_to_go_back_to(hosts: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """--back without an unfinished upgrade is refused, and so is a plan of it."""
    assert hosts
    assert run("ant", back=True) == 1
    assert "no upgrade is unfinished" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--back has no plan"):
        run("ant", back=True, plan_only=True)


def test_a_registry_that_does_not_answer_is_no_reason_to_do_nothing() -> None:
    """An upgrade is refused if npm's registry gives no answer; an installation goes on with the recorded version."""
    fact = f"{RECORD}unanswered npm error code EAI_AGAIN"
    upgrading, installing = (openclaw.release(InstallSettings(), (), upgrade=each) for each in (True, False))
    assert upgrading.refuse(fact) == (
        "npm's registry does not say what openclaw@latest is: npm error code EAI_AGAIN"
    )
    assert installing.refuse(fact) is None
