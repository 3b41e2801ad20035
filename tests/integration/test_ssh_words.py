"""The arguments of `./inv ssh` arrive unchanged in the guest, over one kept connection."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarm import ssh
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.sshd import Sshd


class Master:
    """A kept connection, which saves a login for each of a few dozen commands."""

    def __init__(self, target: ssh.Target, folder: Path) -> None:
        self.target = target
        self.socket = folder / "master"
        subprocess.run(
            [*self._with(ssh.argv(target)[:-1], "-M", "-N", "-f"), target.name],
            check=True,
            stdin=subprocess.DEVNULL,
        )

    def run(self, words: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `words` like `./inv ssh`."""
        return subprocess.run(
            self._with(ssh.argv(self.target, words)),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def close(self) -> None:
        """End the connection."""
        subprocess.run(self._with(ssh.argv(self.target), "-O", "exit"), check=True, capture_output=True)

    def _with(self, argv: list[str], *more: str) -> list[str]:
        return [argv[0], "-S", str(self.socket), *more, *argv[1:]]


@pytest.fixture(scope="module")
def master(server: Sshd, keys: Path, base: Path) -> Iterator[Master]:
    """A kept connection."""
    folder = base / "master"
    folder.mkdir()
    made = Master(server.target(folder / "known_hosts", keys), folder)
    yield made
    made.close()


words = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("'\"$`\\ \n*~#;&|<>()!-="),
    max_size=20,
)


@settings(max_examples=10, deadline=None)
@given(st.lists(words, max_size=30))
@example(["", "-n", "--", "$(id)", "`id`", "a\nb", "'", '"', "\\", "!x", "~", "é🦞"])
def test_several_words_arrive_exactly_as_they_are(master: Master, given_words: list[str]) -> None:
    """Arguments that a shell would split, join or run arrive unchanged."""
    done = master.run(["printf", "%s\\0", "first", *given_words])
    assert done.stdout.decode().split("\0") == ["first", *given_words, ""]


@settings(max_examples=8, deadline=None)
@given(st.lists(words, min_size=1, max_size=30))
def test_quote_makes_one_command_of_words(master: Master, given_words: list[str]) -> None:
    """`quote` returns one shell command in which each argument stays one argument."""
    done = master.run([quote("printf", "%s\\0", *given_words)])
    assert done.stdout.decode().split("\0") == [*given_words, ""]


def test_one_word_is_a_shell_command(master: Master) -> None:
    """A single argument is run by the guest's shell, as ssh does, and its exit code is returned."""
    done = master.run(["echo $((1 + 2)); exit 3"])
    assert (done.stdout, done.returncode) == (b"3\n", 3)


def test_no_words_are_a_login_shell(master: Master) -> None:
    """Without arguments, the guest's login shell reads standard input."""
    assert b"typed\n" in master.run([], stdin=b"echo typed\n").stdout


def test_another_user_may_be_named(target: ssh.Target) -> None:
    """The user of one command overrides the target's."""
    assert ssh.argv(target, ["id"], user="openclaw")[3:] == ["-l", "openclaw", "--", "zap", "id"]
