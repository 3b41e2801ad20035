"""Waiting for a guest ends as soon as it can, and an end that is none names its rung and shows the guest's own words."""

from __future__ import annotations

import io
import re
import socket
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from swarm import ssh
from swarm.console import Meter, Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import Unreachable, VerificationFailed
from swarm.vm.ladder import Climb, climb
from swarm.vm.provision import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONSOLE = [f"line {number}" for number in range(10)]


class Scripted(Climb):
    """A climb whose rungs do as they are told: each takes so many looks, or raises."""

    def __init__(self, looks: dict[str, int | Exception], state: str = "running") -> None:
        super().__init__(
            ssh.Target("zap", "127.0.0.1", Path("/none")),
            lambda: state,
            lambda: CONSOLE,
            ("swarm", "/mnt/swarm"),
        )
        self.looks = looks
        self.closed = False

    def rungs(self) -> list[tuple[str, Callable[[Meter], bool]]]:
        """Return the real ladder's names with scripted looks."""
        return [(name, partial(self._scripted, name)) for name, _ in super().rungs()]

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
        super().close()

    def _scripted(self, name: str, _: Meter) -> bool:
        left = self.looks.get(name, 0)
        if isinstance(left, Exception):
            raise left
        self.looks[name] = left - 1
        return left <= 0


def talk() -> tuple[Talk, io.StringIO]:
    """Return a talk for a log, and the log."""
    screen, text = Screen(), io.StringIO()
    screen.err = Console(file=text, soft_wrap=True, highlight=False)
    return Talk(screen), text


LADDER = [
    "domain running",
    "SSH port open",
    "pinned host key shown",
    "login",
    "cloud-init done",
    "share mounted",
]


def test_every_rung_is_climbed_in_order_and_shown() -> None:
    """Each rung that is reached is one line with its time, and the times never go back."""
    speaker, log = talk()
    way = Scripted({"login": 1})
    rungs = climb(way, Deadline(60), speaker)
    assert [rung.name for rung in rungs] == LADDER
    assert [rung.after for rung in rungs] == sorted(rung.after for rung in rungs)
    assert re.findall(r"✓ (.*) [\d.]+ s", log.getvalue()) == LADDER
    assert way.closed


def test_without_a_share_nothing_waits_for_it() -> None:
    """The last rung is there only if there is something to mount."""
    way = Climb(ssh.Target("zap", "127.0.0.1", Path("/none")), lambda: "running", list, None)
    assert [name for name, _ in way.rungs()] == LADDER[:-1]


HINTS = {
    "domain running": "./inv doctor",
    "SSH port open": "--timeout SECONDS",
    "pinned host key shown": "--timeout SECONDS",
    "login": "--timeout SECONDS",
    "cloud-init done": "cloud-init status --long",
    "share mounted": "journalctl",
}


@pytest.mark.parametrize("name", LADDER)
def test_a_rung_that_is_not_reached_is_named(name: str) -> None:
    """When the time is up, the rung, the limit, the console's last six lines and a way on are told; what was reached stays said."""
    speaker, log = talk()
    way = Scripted({name: 10**9})
    with pytest.raises(Unreachable) as caught:
        climb(way, Deadline(0.01), speaker)
    tail = "".join(f"\n    {line}" for line in CONSOLE[-6:])
    assert (
        caught.value.message == f"zap: {name!r} was not reached within 0 s\n  the console's last lines:{tail}"
    )
    assert caught.value.hint
    assert HINTS[name] in caught.value.hint
    assert re.findall(r"✓ (.*) [\d.]+ s", log.getvalue()) == LADDER[: LADDER.index(name)]
    assert way.closed


@pytest.mark.parametrize("state", ["stopped", "crashed", "shutting-down", "suspended"])
@pytest.mark.parametrize("name", LADDER[1:])
def test_a_vm_that_stops_ends_the_wait_at_once(name: str, state: str) -> None:
    """Nobody waits an hour for a guest that is not running any more."""
    with pytest.raises(Unreachable) as caught:
        climb(Scripted({name: 10**9}, state), Deadline(3600), talk()[0])
    assert caught.value.message.startswith(f"zap: waiting for {name!r} ended, since the VM is {state}")
    assert "line 9" in caught.value.message
    assert caught.value.hint == "./inv console --host zap shows what it said"


@pytest.mark.parametrize(
    "error",
    [
        ssh.KeyRefused("other key", "find out"),
        VerificationFailed("cloud-init reports: no", "look"),
        ssh.LoginRefused("no login"),
    ],
)
def test_what_waiting_cannot_mend_ends_it_at_once(error: Unreachable | VerificationFailed) -> None:
    """Another host key, or cloud-init's own error, is told as it is, with the console's last lines."""
    way = Scripted({"cloud-init done": error})
    with pytest.raises(type(error)) as caught:
        climb(way, Deadline(3600), talk()[0])
    assert caught.value.message.splitlines()[0] == error.message
    assert "line 9" in caught.value.message
    assert caught.value.hint == error.hint
    assert way.closed


def test_a_guest_that_said_nothing() -> None:
    """Without console lines the error is just the sentence."""
    way = Scripted({"login": 10**9})
    way.console = list
    with pytest.raises(Unreachable) as caught:
        climb(way, Deadline(0), talk()[0])
    assert caught.value.message == "zap: 'login' was not reached within 0 s"


@pytest.fixture
def banner() -> Iterator[tuple[int, list[bytes]]]:
    """A port that greets each caller with the next of some words (at first: silence)."""
    words = [b"", b"SSH-2.0-late\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(words.pop(0) if len(words) > 1 else words[0])

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], words
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_port_that_only_listens_is_not_open(banner: tuple[int, list[bytes]], tmp_path: Path) -> None:
    """A port that is silent, or greets and hangs up, is no SSH server yet; the console's last line shows meanwhile what the guest does."""
    notes: list[str] = []
    pin = tmp_path / "zap.known_hosts"
    ssh.pin(pin, ["zap"], ssh.keypair("zap")[1])
    way = Climb(
        ssh.Target("zap", "127.0.0.1", pin, port=banner[0]), lambda: "running", lambda: ["x" * 100], None
    )
    meter = Meter(lambda **fields: notes.append(fields["note"]))
    assert way.port(meter) is False
    assert way.port(meter) is False
    assert notes == ["x" * 60] * 2


def test_the_domain_must_run() -> None:
    """Only "running" counts; what is shown is that the hypervisor is waited for."""
    states = iter(["stopped", "paused", "running"])
    way = Climb(ssh.Target("zap", "127.0.0.1", Path("/none")), lambda: next(states), list, None)
    meter = Meter(lambda **_: None)
    assert [way.running(meter) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"plain\n", ["plain"]),
        (b"one\r\ntwo\r\n\r\n  three  \n", ["one", "two", "three"]),
        (b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\x1b[0m", ["BdsDxe: loading"]),
        (b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mcron\x1b[0m.\n", ["[  OK  ] Started cron."]),
        (b"\x1b(B\x1b7\x1b8\x1bcreset\x1bM\n", ["reset"]),
        (b"10%\r20%\r30%\n", ["10%", "20%", "30%"]),
        (b"tab\there\x00\x07\n", ["tabhere"]),
        ("zäp → 🦞\n".encode(), ["zäp → 🦞"]),
        (b"\xffbroken\xc3", ["\ufffdbroken\ufffd"]),
        (b"\x1b]0;title\x07prompt\n", ["]0;titleprompt"]),
    ],
)
def test_a_consoles_text_without_its_terminal(raw: bytes, lines: list[str]) -> None:
    """Colours and cursor movements are left out, lines and letters stay."""
    assert clean(raw) == lines


@given(st.binary(max_size=300))
def test_nothing_that_a_terminal_would_obey_gets_through(raw: bytes) -> None:
    """Whatever a guest writes to its console, what is shown of it are printable lines."""
    assert all(line and line.isprintable() for line in clean(raw))


@given(st.lists(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20), max_size=5))
def test_plain_lines_stay_as_they_are(lines: list[str]) -> None:
    """What is plain text already is not touched."""
    assert clean("\r\n".join(lines).encode()) == lines
