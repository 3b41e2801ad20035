"""The scripts that guests run, with a real sh: the lock, the signs of life, the steps; and their text.

The expected texts are in test_guest_script.txt. After a deliberate change, regenerate them and review the diff:

    SWARM_WRITE_EXPECTED=1 python -m pytest tests/unit/test_guest_script.py
"""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import subprocess
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import CommandFailed
from swarm.guest.engine.converge import converge, observe
from swarm.guest.engine.script import (
    as_user,
    changes,
    mark_for,
    new_mark,
    of_reader,
    opening,
    prelude,
    probes,
    readers,
)
from swarm.guest.engine.step import Step
from swarm.guest.install.openclaw import release
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.repositories import Repository, apt_repository
from swarm.inventory.inside import InstallSettings
from tests.model_guest import ShellGuest, shell

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = Path(__file__).with_suffix(".txt")
MARK = "\x1e0123456789ab"
LOCK = "/run/swarm-guest.lock"
FACTS = (b"there", b"absent")  # of make()


def question(subject: str, probe: str, reader: str = "", **known: tuple[str, ...]) -> Step:
    """A step that only asks."""
    return Step(subject=subject, probe=probe, wanted="", reader=reader, known=known)


STEPS = [
    question("mine", "mine", "zed", files=("/z",)),
    question("one", "one", files=("/b", "/a"), users=("zed",)),
    question("two", "two", files=("/c d",)),
    question("other", "other", "ann"),
    question("more", "more", "zed"),
]
TEXTS: dict[str, Callable[[], str]] = {
    "opening": lambda: opening(MARK),
    "opening of a changing script": lambda: opening(MARK, changing=True),
    "changes": lambda: changes(["first", "second"], MARK),
    "probes": lambda: probes(STEPS, MARK),
    "as user": lambda: as_user("z d", "echo it's"),
}


def described() -> str:
    """All texts, with the prelude and control characters in short."""
    found = []
    for name, text in TEXTS.items():
        shown = text().replace(prelude().replace("'", "'\"'\"'"), "PRELUDE").replace("\x1e", "^")
        found.append(f"=== {name} ===\n{shown}\n")
    return "\n".join(found)


def test_texts() -> None:
    """The texts of scripts are exactly the expected ones. With SWARM_WRITE_EXPECTED, they are regenerated."""
    if os.environ.get("SWARM_WRITE_EXPECTED"):
        EXPECTED.write_text(described(), encoding="utf-8")
    assert described() == EXPECTED.read_text(encoding="utf-8")


def test_prelude_has_no_comments() -> None:
    """Comments of the shell functions are not sent to guests; everything else is."""
    lines = prelude().splitlines()
    assert "put() (" in lines
    assert not [line for line in lines if line.lstrip().startswith("# ")]
    assert prelude().endswith("}\n")


def test_marks() -> None:
    """Marks are random, start with a control character, and a user's mark does not show root's."""
    assert re.fullmatch("\x1e[0-9a-f]{24}", new_mark())
    assert new_mark() != new_mark()
    own = mark_for("zed", new_mark())
    assert re.fullmatch("\x1e[0-9a-f]{24}", own)
    assert mark_for("zed", MARK) == "\x1e" + "93503c4b56b0f38510a94534"
    assert mark_for("ann", MARK) != mark_for("zed", MARK)


def test_readers() -> None:
    """Root asks its own steps; each other reader asks its own, as if it were root."""
    assert readers(STEPS) == ["zed", "ann"]
    assert [step.subject for step in of_reader(STEPS)] == ["one", "two"]
    assert [(step.subject, step.reader) for step in of_reader(STEPS, "zed")] == [("mine", ""), ("more", "")]


def guest(tmp_path: Path, *, beat: str = "0.05", wait: str = "900") -> ShellGuest:
    """The local computer as a guest, with the lock in a folder of its own, fast signs of life and a wait."""
    return ShellGuest(
        {LOCK: str(tmp_path / "lock"), "sleep 15": f"sleep {beat}", "flock -w 900": f"flock -w {wait}"}
    )


def make(path: Path, script: str = "", *, after: tuple[str, ...] = ()) -> Step:
    """A step that makes a file."""
    return Step(
        subject=path.name,
        probe=f"if [ -e {path} ]; then echo there; else echo absent; fi",
        wanted="there",
        apply=lambda fact: None if fact == "there" else f"{script}\ntouch {path}",
        after=after,
    )


def beats(machine: ShellGuest) -> int:
    """How many signs of life came."""
    return sum(line.endswith(b" beat") for line in machine.lines)


def test_a_run(tmp_path: Path) -> None:
    """Steps run apart from each other and in order. Afterwards the lock is empty, and a second run changes nothing."""
    machine = guest(tmp_path, beat="15")
    rude = make(tmp_path / "rude", "umask 077; cd /etc; LEAK=1; export LEAK; exec 3>&-")
    check = '[ "$(umask)" = 0022 ] && [ "$PWD" = / ] && [ -z "${LEAK-}" ]'
    steps = [make(tmp_path / "polite", check, after=("rude",)), make(tmp_path / "polite2", check), rude]
    plan = converge(machine, steps, Talk(Screen()))
    assert [change.subject for change in plan] == ["polite2", "rude", "polite"]
    assert (tmp_path / "lock").read_bytes() == b""
    assert not converge(machine, steps, Talk(Screen()))
    assert beats(machine) == 0


def test_signs_of_life(tmp_path: Path) -> None:
    """While a step works, signs of life come, and none of them is taken for its output or a fact."""
    machine = guest(tmp_path)
    slow = make(tmp_path / "slow", "printf begun; sleep 0.5; echo ended; exit 3")
    with pytest.raises(CommandFailed, match=r"^zap: slow failed:\n    begunended\n"):
        converge(machine, [slow], Talk(Screen()))
    assert beats(machine) >= 3
    count = beats(machine)
    machine.lines.clear()
    converge(machine, [make(tmp_path / "slow", "sleep 0.3")], Talk(Screen()))
    assert 0 < beats(machine) < 10 * count
    time.sleep(0.3)  # a heart that goes on would be heard, or hold the output open


@pytest.mark.parametrize("slow", [False, True])
def test_signs_of_life_of_a_slow_probe(tmp_path: Path, *, slow: bool) -> None:
    """While a slow probe asks, before and after a change, signs of life come, and its fact is whole."""
    machine = guest(tmp_path)
    probe = f"printf be; sleep 0.3; echo gun; cat {tmp_path}/file 2>/dev/null; :"
    step = Step(
        subject="asked",
        probe=probe,
        slow=slow,
        wanted="done",
        apply=lambda fact: None if fact == "begun\ndone" else f"echo done >{tmp_path}/file",
    )
    facts = observe(machine, [step])()
    assert facts == {"asked": "begun"}
    assert (beats(machine) > 1) is slow
    machine.lines.clear()
    assert converge(machine, [step], Talk(Screen()), asked=lambda: facts)
    assert (beats(machine) > 1) is slow


def test_what_asks_servers_is_slow() -> None:
    """The probes that ask npm's registry or a vendor's server give signs of life."""
    vendor = Repository(
        "thing", "https://x.example/debian", "stable", "main", "https://x.example/key", "A" * 40
    )
    assert release(InstallSettings(), (), upgrade=True).slow
    assert apt_repository(vendor).slow


def test_a_step_that_fails(tmp_path: Path) -> None:
    """Any error in a step ends it and the run; a step's exit code is not the script's."""
    for script in ("false; true", "echo $NOT_SET", "exit 9"):
        with pytest.raises(CommandFailed, match=r"^zap: bad failed:"):
            converge(
                guest(tmp_path), [make(tmp_path / "bad", script), make(tmp_path / "next")], Talk(Screen())
            )
        assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("changing", [False, True])
def test_waiting_for_an_earlier_run(
    tmp_path: Path,
    changing: bool,  # noqa: FBT001 - a column of the table
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run waits while an earlier one holds the lock, says so, and gives signs of life; then it goes on."""
    machine = guest(tmp_path)
    step = make(tmp_path / "file")
    with (tmp_path / "lock").open("w") as lock:
        lock.write("at work")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = observe(machine, [step], Talk(Screen()))
        deadline = time.monotonic() + 30
        while beats(machine) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [line for line in machine.lines if b"fact" in line]
    assert answer() == {"file": "absent"}
    assert "waiting: an earlier run is still finishing a step on this host" in capsys.readouterr().err
    assert (tmp_path / "lock").read_bytes() == b""
    if changing:
        converge(machine, [step], Talk(Screen()), asked=answer)


def test_a_lock_that_stays(tmp_path: Path) -> None:
    """A run that waited in vain says so, and its heart has stopped."""
    (tmp_path / "lock").write_text("at work")
    with (tmp_path / "lock").open("r") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = observe(guest(tmp_path, wait="0.2", beat="20"), [make(tmp_path / "file")])
        begun = time.monotonic()
        with pytest.raises(CommandFailed, match="an earlier run still holds the host after 900 s"):
            answer()
        assert time.monotonic() - begun < 15
        changing = [make(tmp_path / "file")]
        with pytest.raises(CommandFailed, match="an earlier run still holds the host"):
            converge(guest(tmp_path, wait="0.2"), changing, Talk(Screen()), asked=lambda: {"file": "absent"})
    assert (tmp_path / "lock").read_text() == "at work"


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    """Where /run cannot be written to, that is what the error says."""
    machine = ShellGuest({LOCK: str(tmp_path / "missing" / "lock")})
    with pytest.raises(
        CommandFailed, match=r"^zap: cannot take the lock in /run\n  hint: check on the host: df -h /run$"
    ):
        converge(machine, [make(tmp_path / "file")], Talk(Screen()))


def test_a_stale_lock(tmp_path: Path) -> None:
    """What a broken run left in the lock does not hold up the next one."""
    (tmp_path / "lock").write_text("at work")
    assert observe(guest(tmp_path), [make(tmp_path / "file")])() == {"file": "absent"}
    assert (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("as_name", [None, getpass.getuser()])
def test_a_program_that_reads_its_input_takes_no_script(as_name: str | None) -> None:
    """A command runs to its end, also if a program in it reads all input. It finds none."""
    if as_name and os.geteuid():
        pytest.skip("changing the account needs root")
    long = f"cat\n{': ' + 'x' * 70}\n" * 300  # more than a shell reads at once
    step = command("long", f"{long}echo the end", unless="false", as_name=as_name)
    script = f"{opening(new_mark(), changing=False)}\n{step.apply('due')}\n"
    assert shell(script).splitlines()[-1] == b"the end"


def test_what_a_step_leaves_running_holds_nothing_up(tmp_path: Path) -> None:
    """A step ends with its shell: a process that it leaves may keep the output open, and may go on writing to it."""
    machine, go, done = guest(tmp_path, beat="15"), tmp_path / "go", tmp_path / "done"
    left = f"{{ until [ -e {go} ]; do sleep 0.1; done; echo late; touch {done}; }} &\nseq 20000; printf half"
    steps = [make(tmp_path / "first", left), make(tmp_path / "second", "echo next", after=("first",))]
    try:
        converge(machine, steps, Talk(Screen()), deadline=Deadline(20))
    finally:
        go.touch()
    expected = [*(b"%d" % number for number in range(1, 20001)), b"half", b"next"]
    assert [line for line in machine.lines if line and line[:1] != b"\x1e" and line not in FACTS] == expected
    deadline = time.monotonic() + 20
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.exists()


def test_a_step_ends_after_its_connection_broke(tmp_path: Path) -> None:
    """A step that prints a lot runs to its end although nobody reads its output any more."""
    done = tmp_path / "done"
    script = f"{opening(MARK, changing=True)}\n{changes([f'seq 200000; touch {done}'], MARK)}"
    with subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(script.replace(LOCK, str(tmp_path / "lock")).encode())
        running.stdin.close()
        assert running.stdout.readline() == b"\n"
        running.stdout.close()
        running.wait(20)
    assert done.exists()


def test_a_steps_output_arrives_while_it_runs(tmp_path: Path) -> None:
    """Each line of a step's output is passed on at once, not when the step ends or a buffer is full."""
    machine, seen = guest(tmp_path, beat="15"), tmp_path / "seen"
    wait = f"n=0; until [ -e {seen} ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 200 ]; done"

    def look() -> None:
        while b"early" not in machine.lines and not ended.wait(0.01):
            pass
        seen.touch()

    ended, reader = Event(), Thread(target=look)
    reader.start()
    try:
        converge(machine, [make(tmp_path / "file", f"echo early; {wait}")], Talk(Screen()))
    finally:
        ended.set()
        reader.join()
