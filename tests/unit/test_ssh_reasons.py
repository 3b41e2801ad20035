"""The line that is an error is the reason, whatever stands around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.backup.rsync import Outcome
from swarm.backup.rsync import explain as explain_rsync
from swarm.errors import SwarmError
from swarm.ssh.reasons import Ending, LoginRefused, NoAnswer, TooManyKeys, explain

_LOST = "sudo: unable to resolve host box: Name or service not known\n"


@pytest.mark.parametrize(
    ("messages", "kind", "words"),
    [
        (f"{_LOST}sudo: a password is required\n", LoginRefused, "become root: sudo: a password is required"),
        (f"sudo: a password is required\n{_LOST}", LoginRefused, "become root: sudo: a password is required"),
        (f"{_LOST}sh: 1: Syntax error\n", SwarmError, "could not read the script: sh: 1: Syntax error"),
        (_LOST, SwarmError, "could not read the script: ssh ended with exit code 1"),
        ("Received disconnect: Too many authentication failures\n", TooManyKeys, "none of the first keys"),
    ],
)
def test_the_error_is_the_reason(messages: str, kind: type[SwarmError], words: str) -> None:
    """The warning of sudo about its host's own name is never the reason, wherever it stands."""
    error = explain("zap", Path("config"), Ending(1, messages, started=False))
    assert isinstance(error, kind)
    assert error.message.endswith(words) or words in error.message
    assert "unable to resolve" not in error.message


@pytest.mark.parametrize("text", ["x", "sudo: ", "timed out "])
@pytest.mark.parametrize("code", [1, 255])
def test_an_error_quotes_only_the_beginning_of_a_long_line(code: int, text: str) -> None:
    """A guest's banner makes no error longer than a few lines."""
    error = explain("zap", Path("config"), Ending(code, text * 1000, started=False))
    assert text in error.message
    assert len(error.message) < 500


@pytest.mark.parametrize("text", ["x", "sudo "])
def test_a_long_line_takes_no_time(text: str) -> None:
    """What a login prints is searched in a moment, also if it is one long line: quadratic time would be hours."""
    error = explain("zap", Path("config"), Ending(255, text * 100_000, started=False))
    assert isinstance(error, NoAnswer)


def test_a_copys_reason_is_the_error() -> None:
    """The same holds for rsync, which runs sudo in the guest."""
    outcome = Outcome(code=12, messages=f"{_LOST}sudo: a password is required\nrsync error: code 12\n")
    assert explain_rsync("zap", outcome, Path("mirror")).message.endswith("sudo: a password is required")


def test_a_chatty_login_is_named() -> None:
    """Where a login prints into rsync's conversation, the error says what has to be silent."""
    outcome = Outcome(code=2, messages="protocol version mismatch -- is your shell clean?\n")
    assert "~/.bashrc" in (explain_rsync("zap", outcome, Path("mirror")).hint or "")
