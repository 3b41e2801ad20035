"""What people see: one line a step in a log, live steps on a terminal, and no text that acts as markup or control."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from swarm.console import Screen, Talk, screen
from swarm.deadline import Deadline
from swarm.errors import SwarmError
from swarm.text import seconds, visible

if TYPE_CHECKING:
    from collections.abc import Callable

ODD = ["[red]x[/red]", "[/]", "[bold", "a\\[b]", "zap [claw]", "[link=http://x]y"]


def log() -> tuple[Screen, io.StringIO]:
    """Return a screen that is no terminal, and what is written to it."""
    made, text = Screen(), io.StringIO()
    made.err = Console(file=text, soft_wrap=True, highlight=False)
    return made, text


def terminal() -> tuple[Screen, io.StringIO]:
    """Return a screen that treats its output as a terminal of 200 columns, and that output."""
    made, text = Screen(), io.StringIO()
    made.err = Console(file=text, soft_wrap=True, highlight=False, force_terminal=True, width=200)
    return made, text


def plain(text: str) -> str:
    """Return what a terminal would show of `text`, without colors and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
    ],
)
def test_durations_are_read_at_a_glance(value: float, text: str) -> None:
    """Short durations show tenths of a second; long ones show minutes."""
    assert seconds(value) == text


@given(st.floats(0, 1e6))
def test_a_duration_is_never_far_off(value: float) -> None:
    """A formatted duration is accurate to half of its smallest unit."""
    shown = seconds(value)
    if match := re.fullmatch(r"(\d+) min (\d\d) s", shown):
        assert abs(int(match[1]) * 60 + int(match[2]) - value) <= 0.5
        assert int(match[2]) < 60
    else:
        number = shown.removesuffix(" s")
        assert abs(float(number) - value) <= (0.05001 if "." in number else 0.5)


def test_a_deadline_counts_from_its_start() -> None:
    """Elapsed time counts, remaining time is never negative, and a pause never exceeds the deadline."""
    past = Deadline(60, start=time.monotonic() - 100)
    assert past.elapsed >= 100
    assert (past.remaining, past.expired, past.pause(3600)) == (0, True, False)
    fresh = Deadline(3600)
    assert not fresh.expired
    assert 0 < fresh.remaining <= 3600
    assert fresh.pause(0)


def test_a_pause_is_cut_at_the_deadline() -> None:
    """A pause of an hour ends at the deadline and returns False."""
    assert not Deadline(0.01).pause(3600)


def test_off_a_terminal_each_step_is_one_line_when_it_ends() -> None:
    """A log gets no spinners: a step that contains another ends after it, and each is one line with its time."""
    made, text = log()
    talk = Talk(made, "zap")
    with talk.step("outer") as meter:
        meter.note("noted")
        meter.advance(5, 10)
        with talk.step("inner"):
            assert text.getvalue() == ""
    assert [re.sub(r"[\d.]+ s$", "T", line) for line in text.getvalue().splitlines()] == [
        "zap ✓ inner T",
        "zap ✓ outer T",
    ]


def test_a_step_that_fails_is_not_done() -> None:
    """A step that raises shows no ✓."""
    for made, text in (log(), terminal()):
        with pytest.raises(SwarmError, match="no"), Talk(made).step("work"):
            raise SwarmError("no")
        assert "✓" not in text.getvalue()


def test_a_silent_step_leaves_no_line() -> None:
    """A silent step writes nothing to a log."""
    made, text = log()
    with Talk(made).step("look", silent=True):
        pass
    assert text.getvalue() == ""


def test_on_a_terminal_a_step_shows_what_it_does() -> None:
    """While it runs, a step shows its name, its note and its progress; afterwards one line stays."""
    made, text = terminal()
    with Talk(made, "zap").step("uploading") as meter, made.live() as progress:
        meter.note("half-way [/]")
        meter.advance(1 << 20, 2 << 20)
        progress.refresh()
        shown = plain(text.getvalue())
    assert "zap uploading" in shown
    assert "half-way [/]" in shown
    assert "1.0/2.0 MiB" in shown
    assert re.search(r"zap ✓ uploading [\d.]+ s\n$", plain(text.getvalue()))


def test_a_terminal_may_start_again() -> None:
    """After the last step the live area is gone, and the next step makes a new one."""
    made, text = terminal()
    for _ in range(2):
        with Talk(made).step("again"):
            pass
    assert plain(text.getvalue()).count("✓ again") == 2


@pytest.mark.parametrize("name", ODD)
def test_names_are_no_markup(name: str) -> None:
    """Every kind of talk shows a domain called "[red]x[/red]" literally, on a terminal and off it."""
    for made, text in (log(), terminal()):
        talk = Talk(made, name)
        talk.say(name)
        talk.warn(name)
        talk.done(name, 1)
        with talk.step(name) as meter, made.live() as progress:
            meter.note(name)
            progress.refresh()
        made.error(SwarmError(name, name), talk.prefix)
        lines = [line.strip() for line in plain(text.getvalue()).splitlines()]
        assert f"{name} {name}" in lines
        assert f"{name} note: {name}" in lines
        assert f"{name} ✓ {name} 1.0 s" in lines
        assert f"{name} error: {name}" in lines
        assert f"{name}   hint: {name}" in lines


def test_quiet_talk_still_warns() -> None:
    """Quiet talk writes nothing but warnings."""
    made, text = log()
    talk = Talk(made, quiet=True)
    talk.say("said")
    talk.done("done")
    with talk.step("step"):
        pass
    talk.warn("take care")
    assert text.getvalue() == "note: take care\n"


def test_hosts_side_by_side_do_not_mix_their_lines() -> None:
    """Each line of each host arrives whole, in a log and on a terminal."""
    for made, text in (log(), terminal()):

        def work(name: str, made: Screen = made) -> None:
            for number in range(20):
                with Talk(made, name).step(f"step {number}") as meter:
                    meter.note("x" * number)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, ("ant", "bee", "cat", "dog")))
        lines = re.findall(r"(ant|bee|cat|dog) ✓ step (\d+) 0\.\d s(?:\n|$)", plain(text.getvalue()))
        assert sorted(lines) == sorted(
            (name, str(number)) for name in ("ant", "bee", "cat", "dog") for number in range(20)
        )


def test_data_goes_to_stdout_and_talk_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that reads stdout gets data and nothing else."""
    made = Screen()
    made.json({"name": "zäp", "n": 1})
    Talk(made).say("talk")
    written = capsys.readouterr()
    assert json.loads(written.out) == {"name": "zäp", "n": 1}
    assert "zäp" in written.out
    assert written.err == "talk\n"


def test_a_table_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a table is not cut at 80 columns, and cells are plain text."""
    long = "x" * 300
    Screen().table(("name", "what"), [("[red]a[/]", long), ("b", "")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["name", "what"], ["[red]a[/]", long], ["b"]]


def test_without_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off a terminal the answer is no without --yes, even if standard input has data."""
    made, text = log()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert Talk(made).ask("Delete?") is False
    assert text.getvalue() == ""


@pytest.mark.parametrize(
    ("typed", "answer"), [("y", True), ("YES", True), ("", False), ("n", False), ("yeah", False)]
)
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:  # noqa: FBT001
    """On a terminal, y and yes mean yes. Every other answer means no, an empty one too."""
    ours, theirs = pty.openpty()
    made, text = log()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard.write(typed + "\n")
        keyboard.flush()
        assert Talk(made, "zap").ask("Delete [all]?") is answer
    assert text.getvalue() == "zap Delete [all]? [y/N] "


def test_there_is_one_screen() -> None:
    """All hosts of a run share the screen, so that its live area is one."""
    assert screen() is screen()


# What a terminal would act on or not show: an escape sequence, a C1 control, a bidirectional override, a
# zero-width space, a lone surrogate.
HOSTILE = "a\x1b[2J\x9b31m\u202egnp\u200b\x07\x7f\udc80z"
SHOWN = r"a\x1b[2J\x9b31m\u202egnp\u200b\x07\x7f\udc80z"


@given(st.text(st.characters(), max_size=60) | st.text("\r\n\t\x1b\u202e a", max_size=20))
def test_no_control_character_is_ever_shown(text: str) -> None:
    """Whatever the input, the output has no control, format or surrogate character but line ends."""
    for lines in (True, False):
        shown = visible(text, lines=lines)
        found = {unicodedata.category(character) for character in shown.replace("\n", "" if lines else "\n")}
        assert not found & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=60))
def test_printable_text_is_shown_unchanged(text: str) -> None:
    """Letters, digits, punctuation and symbols of every script pass unchanged, and so do line ends."""
    assert visible(f"{text}\n{text}") == f"{text}\n{text}"


def test_line_ends_and_tabs_are_no_hostile_characters() -> None:
    """A CR before a newline belongs to the line end, tabs become spaces, and any other CR is escaped."""
    assert visible("a\r\nb\tc\rd") == "a\nb       c\\rd"


@pytest.mark.parametrize("made", [log, terminal])
def test_hostile_text_is_escaped_wherever_it_is_shown(made: Callable[[], tuple[Screen, io.StringIO]]) -> None:
    """Talk, steps, notes and errors show a guest's control characters, and send none of them."""
    screen, text = made()
    talk = Talk(screen, HOSTILE)
    talk.say(HOSTILE)
    talk.warn(HOSTILE)
    talk.done(HOSTILE)
    with talk.step(HOSTILE) as meter, screen.live() as progress:
        meter.note(HOSTILE)
        progress.refresh()
    screen.error(SwarmError(HOSTILE, HOSTILE), talk.prefix)
    screen.line(HOSTILE)
    shown = plain(text.getvalue())
    assert not {character for character in HOSTILE if not character.isprintable()} & set(shown)
    assert "\x1b[2J" not in text.getvalue()
    assert shown.count(SHOWN) >= 11


def test_hostile_data_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, data and a guest's console log go through the same escapes; a header or cell stays one line."""
    made = Screen()
    made.table((f"{HOSTILE}\nname",), [(f"{HOSTILE}\nnext",)])
    made.data(HOSTILE)
    made.text([HOSTILE])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [rf"{SHOWN}\nname", rf"{SHOWN}\nnext", SHOWN, SHOWN]


@given(st.text(st.characters(), max_size=40))
def test_json_keeps_its_values_and_sends_no_control_character(text: str) -> None:
    """Control characters are escaped as JSON escapes them, so a script reads the exact value."""
    with pytest.MonkeyPatch.context() as patch:
        stdout = io.StringIO()
        patch.setattr(sys, "stdout", stdout)
        Screen().json({"text": text})
    assert json.loads(stdout.getvalue()) == {"text": text}
    assert stdout.getvalue().replace("\n", "").isprintable()


def test_each_line_of_a_message_names_its_host() -> None:
    """A guest's text with a line end in it can't pass for another host's line."""
    made, text = log()
    talk = Talk(made, "zap")
    talk.say("one\ndemo ✓ installed")
    made.error(SwarmError("first\nsecond", "hint\nmore"), talk.prefix)
    assert all(line.startswith("zap ") for line in text.getvalue().splitlines())


def test_a_question_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt shows a hostile name with escapes."""
    ours, theirs = pty.openpty()
    made, text = log()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard.write("y\n")
        keyboard.flush()
        assert Talk(made).ask(f"Delete {HOSTILE}?")
    assert text.getvalue() == f"Delete {SHOWN}? [y/N] "


def test_words_between_colons_are_no_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """Text like :warning: is shown unchanged, not as an emoji."""
    Screen().line("a:warning:b")
    assert capsys.readouterr().err == "a:warning:b\n"
