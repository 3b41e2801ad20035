"""How a running level is shown, and what its failures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.console import Screen, Talk
from swarm.errors import CommandFailed
from swarm.guest.engine.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

MARK = "\x1e0123456789ab"
SUBJECTS = ("one", "two")


class Recorder(Talk):
    """Records lines, steps and the notes beside them."""

    def __init__(self) -> None:
        super().__init__(Screen())
        self.log: list[str] = []

    def say(self, text: str) -> None:
        """Record a line."""
        self.log.append(f"say {text}")

    def step(self, text: str, *, silent: bool = False) -> AbstractContextManager[Recorder]:  # type: ignore[override]
        """Record a step's beginning, and its end unless it fails."""
        from contextlib import contextmanager

        @contextmanager
        def running() -> Iterator[Recorder]:
            assert not silent
            self.log.append(f"begin {text}")
            yield self
            self.log.append(f"end {text}")

        return running()

    def note(self, text: str) -> None:
        """Record a note."""
        self.log.append(text)


def feed(reporter: Reporter, *lines: str) -> Reporter:
    """Hand over lines; those that begin with a > are marks."""
    for line in lines:
        reporter.take(line.replace(">", f"{MARK} ").encode("utf-8", "surrogateescape"))
    return reporter


def test_steps_are_shown_as_they_run() -> None:
    """Each step is shown from its beginning to its end, with its latest line of output as a note."""
    talk = Recorder()
    with Reporter("zap", SUBJECTS, MARK, talk, ("s3cret",)) as reporter:
        running = [feed(reporter, "before", "", ">begin 0").current]
        feed(reporter, "  hello s3cret ", "", "x" * 101, "bad \udcff", ">end 0 0", "between")
        running += [reporter.current, feed(reporter, ">begin 1").current, feed(reporter, ">end 1 0").current]
        reporter.judge(0)
    assert running == ["one", None, "two", None]
    assert talk.log == [
        *("begin one", "hello ••••", "x" * 100 + "…", "bad �", "end one"),
        *("begin two", "end two"),
    ]


def test_waiting_is_reported() -> None:
    """A run that waits for an earlier one says so, unless it has no talk."""
    talk = Recorder()
    feed(Reporter("zap", (), MARK, talk), ">busy")
    assert talk.log == ["say waiting: an earlier run is still finishing a step on this host"]
    feed(Reporter("zap", SUBJECTS, MARK, None), ">busy", ">begin 0", "text", ">end 0 0")


def test_a_failed_step() -> None:
    """A step that fails is not shown as done. Its error names it and shows its last twelve lines, without secrets."""
    talk = Recorder()
    with (  # noqa: PT012 - the reporter's own block is what fails
        pytest.raises(CommandFailed) as caught,
        Reporter("zap", SUBJECTS, MARK, talk, ("s3",)) as reporter,
    ):
        feed(reporter, ">begin 0", "from one", ">end 0 0", ">begin 1")
        feed(reporter, *(f"line {index} s3 " for index in range(14)), "y" * 301, ">end 1 9")
        reporter.judge(74)
    shown = [f"    line {index} ••••" for index in range(3, 14)] + ["    " + "y" * 300 + "…"]
    assert caught.value.message.splitlines() == ["zap: two failed:", *shown]
    assert caught.value.hint == "fix the cause and run the same command again: it continues with this step"
    assert "end one" in talk.log
    assert "end two" not in talk.log


def test_a_step_that_fails_in_silence() -> None:
    """A step that printed nothing says so, and shows nothing of an earlier step."""
    reporter = feed(
        Reporter("zap", SUBJECTS, MARK, None), ">begin 0", "words", ">end 0 0", ">begin 1", ">end 1 1"
    )
    with pytest.raises(CommandFailed, match=r"^zap: two failed:\n    \(it printed nothing\)\n"):
        reporter.judge(74)


@pytest.mark.parametrize(
    ("code", "lines", "message", "hint"),
    [
        (
            75,
            (">busy",),
            "zap: an earlier run still holds the host after 900 s",
            "find the process that hangs on the host: ps -ef --forest",
        ),
        (73, ("sh: cannot create",), "zap: cannot take the lock in /run", "check on the host: df -h /run"),
        (
            2,
            ("sh: 3: Syntax error",),
            "zap: the host could not run the script (exit code 2)",
            "sh: 3: Syntax error",
        ),
        (137, (), "zap: the host could not run the script (exit code 137)", None),
    ],
)
def test_exit_codes(code: int, lines: tuple[str, ...], message: str, hint: str | None) -> None:
    """An exit code outside of a step is explained."""
    with pytest.raises(CommandFailed) as caught:
        feed(Reporter("zap", SUBJECTS, MARK, None), *lines).judge(code)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    "lines",
    [
        (">",),
        (">begin",),
        (">begin 1",),
        (">begin -1",),
        (">begin x",),
        (">begin 0", ">begin 1"),
        (">begin 0", ">begin 0"),
        (">begin 0", ">end 1 0"),
        (">begin 0", ">end 0"),
        (">begin 0", f">end {'0' * 5000} 0"),
        (">end 0 0",),
        (">begin 0", ">end 0 0", ">begin 0"),
        (">begin 0", ">end 0 0", ">begin 1", ">end 1 0", ">begin 2"),
        (">busy now",),
        (">other",),
    ],
)
def test_malformed_marks(lines: tuple[str, ...]) -> None:
    """A mark that the script cannot have printed is an error that names the host."""
    with pytest.raises(CommandFailed, match=r"^zap: received an unexpected answer from the guest$"):
        feed(Reporter("zap", SUBJECTS, MARK, None), *lines)


LINES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([f"{MARK} {word}".encode() for word in ("begin 0", "end 0 0", "busy", "end 0 9")]),
)


@given(st.lists(LINES, max_size=8), st.integers(0, 999))
def test_any_output_is_handled(lines: list[bytes], code: int) -> None:
    """Whatever a guest prints, and whatever code it ends with, nothing but CommandFailed is raised."""
    reporter = Reporter("zap", SUBJECTS, MARK, None)
    try:
        for line in lines:
            reporter.take(line)
        reporter.judge(code)
    except CommandFailed as error:
        assert error.message.startswith("zap: ")  # noqa: PT017 - either is fine
