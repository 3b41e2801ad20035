"""A command's own output is cut out of what a login prints around it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.guest.answer import cut, new_mark, wrap

NOISE = st.binary(max_size=60)


@given(NOISE, NOISE, st.binary(max_size=200), st.integers(0, 255), NOISE)
def test_answer_between_noise(before: bytes, errors: bytes, text: bytes, code: int, after: bytes) -> None:
    """Whatever a login prints before and after, the answer is exactly what the command printed."""
    mark = new_mark()
    lines = mark.encode()
    output = before + lines + b"\n" + text + b"\n" + lines + b" %d\n" % code + after
    found = cut(output, errors + lines + b"\n" + text, mark)
    clean = text.decode("utf-8", "replace").strip()
    assert found
    assert (found.code, found.text, found.errors) == (code, clean, clean)


@given(st.binary(max_size=200))
def test_answer_without_marks(output: bytes) -> None:
    """Output without both marks is no answer."""
    assert cut(output, output, "mark-1") is None
    assert cut(b"mark-1\n" + output, b"", "mark-1") is None
    assert cut(b"mark-1\nx\nmark-1 99999\n" + output, b"", "mark-1") is None


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("command", "code", "text", "errors"),
    [
        ("echo one; echo two", 0, "one\ntwo", ""),
        ("printf end; exit 3", 3, "end", ""),
        ("echo 'it'\\''s' >&2; false", 1, "", "it's"),
        ("echo \"$HOME!\" | tr -d '\\n'  # a comment", 0, "/home/zed!", ""),
        ("cat", 0, "", ""),
    ],
)
def test_command_between_noise(shell: str, command: str, code: int, text: str, errors: str) -> None:
    """A command runs unchanged whatever the login prints, and keeps its exit code."""
    mark = new_mark()
    login = f"echo Welcome; echo trouble >&2; {wrap(command, mark)}"
    done = subprocess.run(
        [shell, "-c", login],
        env={"PATH": "/usr/bin:/bin", "HOME": "/home/zed"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    found = cut(done.stdout, done.stderr, mark)
    assert found
    assert (found.code, found.text, found.errors) == (code, text, errors)


def test_command_has_no_special_characters() -> None:
    """A command is sent without any character that shells treat differently."""
    sent = wrap("echo 'a!\\\\b'\n# \N{LOBSTER}", "mark-1", login="zed")
    assert sent.isascii()
    assert set(sent) & set("\n\\!`~%^#&;<>*?[]") == set()
