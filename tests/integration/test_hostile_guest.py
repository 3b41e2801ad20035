"""Every verb that talks to guests, against guests that lie, flood, hang and leave, beside guests that do not.

What each name of a behavior stands for is in tests/player.py.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Dirs
from tests.hostile import Ran, World, world
from tests.player import PLAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root"),
]

MEMORY = 200  # MiB that a run and everything that it leaves behind may take
SUITE_MEMORY = 50  # MiB that each further suite of verify may take; that of an honest guest takes 45
LIMIT = 5  # seconds that are given to a verb
GOOD = ("honest", "noisy")
FACTS = ("escapes", "only-escapes", "nul", "brackets", "braces", "digits", "shapes", "empty", "huge-facts")
MARKS = ("doubled", "swapped-marks", "odd-marks", "no-done", "long-code", "long-done", "odd-code", "failed",
         "two-begins", "end-first")  # fmt: skip
FLOODS = ("beats", "flood", "errors", "one-line", "newlines", "early-flood", "early-errors", "early-line",
          "late-flood", "dialer")  # fmt: skip
TIMES = ("drip", "early-drip", "silence", "mute", "half-fact", "stubborn")
ENDS = ("gone", "gone-begun", "gone-fact", "gone-end", "leaves", "leaves-begun", "refused", "no-shell", "no-sudo",
        "other-key", "child")  # fmt: skip
SUITE = ("suite-flood", "suite-errors", "suite-line")
SUITE_TIMES = ("suite-drip", "suite-silence", "suite-gone")
# What is no lie for a verb that does not ask for it.
TRUE = {
    "status": {"doubled", "swapped-marks", "odd-marks", "no-done", "long-done", "child", *FACTS},
    "customize": {"child"},
    "provision": {"swapped-marks", "odd-marks", "no-done", "long-done", "child"},
}


@pytest.fixture(scope="module")
def den(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host for each behavior."""
    with pytest.MonkeyPatch.context() as patch:
        dirs = Dirs.make(base / "den", patch)
        with world(tmp_path_factory.mktemp("den"), dirs, [*PLAYS], refused=["refused"]) as made:
            yield made


def is_safe(ran: Ran, suites: int = 1) -> None:
    """Check what holds for each run: nothing reaches the terminal raw, nothing crashes, little memory is taken.

    `suites` is the number of verify's suites that run side by side, each a process of its own.
    """
    assert all(character.isprintable() or character == "\n" for character in ran.shown), ascii(ran.shown)
    assert "Traceback" not in ran.shown
    assert "InternalError" not in ran.shown
    assert "defect" not in ran.err
    assert ran.memory < MEMORY + (suites - 1) * SUITE_MEMORY


def failed(ran: Ran, names: Sequence[str]) -> set[str]:
    """Return which hosts' errors are told, each in a sentence of its own."""
    return {name for name in names if re.search(rf"^{name} error: .{{15,}}", ran.err, re.MULTILINE)}


def rows(ran: Ran, name: str) -> list[str]:
    """Return the words of a host's row."""
    (found,) = (line.split() for line in ran.out.splitlines() if line.split()[:1] == [name])
    return found


@pytest.mark.parametrize(
    "lies", [FACTS, MARKS, (*FLOODS, *TIMES), ENDS], ids=["facts", "marks", "floods-and-times", "ends"]
)
def test_customize_survives(den: World, lies: Sequence[str]) -> None:
    """Each lie is an error of its host alone, within its time, and the hosts beside it get their plan."""
    ran = den.inv("customize", "--plan", f"--timeout={LIMIT}", "--host", ",".join((*GOOD, *lies)))
    is_safe(ran)
    assert failed(ran, lies) == set(lies) - TRUE["customize"]
    for name in GOOD:
        assert rows(ran, name)[1:3] == ["2", "changes"]
    assert ran.code == 1


def test_install_survives(den: World) -> None:
    """Each flood and each silence is an error of its host, within its time."""
    lies = (*FLOODS[:5], *TIMES)
    ran = den.inv("install", "--plan", f"--timeout={LIMIT}", "--host", ",".join(lies))
    is_safe(ran)
    assert failed(ran, lies) == set(lies)


@pytest.mark.parametrize(
    "lies", [(*FACTS, *MARKS, *ENDS), (*FLOODS, *TIMES)], ids=["lies", "floods-and-times"]
)
def test_provision_survives(den: World, lies: Sequence[str]) -> None:
    """A machine that swarm did not make is asked who we are, and each lie about it is an error of that host."""
    # Twice the time: each host is logged in to, and a busy computer takes seconds for the logins of all.
    ran = den.inv("provision", f"--timeout={2 * LIMIT}", "--host", ",".join((*GOOD, *lies)))
    is_safe(ran)
    assert failed(ran, lies) == set(lies) - TRUE["provision"]
    for name in GOOD:
        assert rows(ran, name)[1:4] == ["nothing", "to", "do"]


@pytest.mark.parametrize(
    "lies",
    [(*FACTS, *MARKS, *ENDS), (*FLOODS, "databases"), ("owners",)],
    ids=["lies", "floods", "owners"],
)
def test_backup_survives(den: World, lies: Sequence[str]) -> None:
    """Each lie is an error of its host alone. The honest guests have no state directory, and are told so."""
    ran = den.inv("backup", "--plan", "--host", ",".join((*GOOD, *lies)))
    is_safe(ran)
    assert failed(ran, (*GOOD, *lies)) == {*GOOD, *lies}
    for name in GOOD:
        assert f"{name}: the guest has no state directory" in ran.err


def test_status_survives(den: World) -> None:
    """A look at all guests at once shows the facts of the good ones, and a word for each other."""
    lies = (*FACTS, *MARKS, *FLOODS, *TIMES, *ENDS)
    ran = den.inv("status", "--host", ",".join((*GOOD, *lies)))
    is_safe(ran)
    for name in (*GOOD, *TRUE["status"] - {"huge-facts", "brackets", "braces"}):
        assert rows(ran, name)[3] == "ok", name
    # The answers of these two may have arrived completely before they go on or go away.
    for name in set(lies) - TRUE["status"] - {"gone-end", "late-flood"}:
        assert rows(ran, name)[3] == "✗"
    assert rows(ran, "honest")[4:] == rows(ran, "noisy")[4:] != []


@pytest.mark.parametrize(
    "lies", [SUITE, SUITE_TIMES, (*FLOODS, *ENDS[:-1])], ids=["suite", "times", "floods-and-ends"]
)
def test_verify_survives(den: World, lies: Sequence[str]) -> None:
    """Each lie is an error of its host, or breaks its promises; nothing takes longer than it may."""
    ran = den.inv("verify", f"--timeout={LIMIT}", "--host", ",".join(lies))
    is_safe(ran, len(lies))
    assert failed(ran, lies) == set(lies)


def test_a_shell_that_prints_keeps_its_promises(den: World) -> None:
    """A login shell that prints before and after, on both streams, changes nothing about what verify finds.

    Control characters in what another guest's commands say are shown, in the promises that they break.
    """
    ran = den.inv("verify", "--host", "honest,noisy,suite-escapes")
    is_safe(ran, suites=3)
    assert re.search(r"^suite-escapes \d+ promises: 0 kept", ran.err, re.MULTILINE)
    found = re.findall(r"^(?:honest|noisy) (\d+ promises: .*)$", ran.err, re.MULTILINE)
    assert len(found) == 2
    assert found[0] == found[1]
