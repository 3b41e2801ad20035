"""A guest that lies: the login shell of tests.hostile's accounts. It plays one behavior for each address.

`player.py -c COMMAND` is what sshd runs. The behavior is the name that the file behaviors.json, beside this program's
copy, gives to the address that the client has connected to. Standard library only: the server starts it for each login.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = re.compile(rb"\x1e[0-9a-f]{24}")
_BEGIN = re.compile(rb"(\x1e[0-9a-f]{24}) begin")
_ANSWER = re.compile(rb"\x1e|mark-[0-9a-f]{24}")  # lines with which swarm cuts out answers
_LIFE = 100  # seconds after which a player ends, whatever it does
_LONG = 5000  # digits
_DEEP = 200_000  # brackets
_EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\x7f".encode()
_SHELL = ("/bin/sh", "-c")


def _say(text: bytes, to: int = 1) -> int:
    """Write everything, until nobody reads it. Return how much that was."""
    view = memoryview(text)
    while view:
        view = view[os.write(to, view) :]
    return len(text)


def _stay() -> NoReturn:
    while True:
        time.sleep(60)


def _flood(text: bytes, to: int = 1) -> NoReturn:
    data = text * max(1, (1 << 16) // len(text))
    while True:
        _say(data, to)


def _drip(to: int = 1) -> NoReturn:
    while True:
        _say(b"x", to)
        time.sleep(1)


def _many(text: bytes) -> NoReturn:
    """Count for ever."""
    number = 0
    while True:
        _say(b"".join(text % (number + each) for each in range(1000)))
        number += 1000


def _script() -> tuple[bytes, bytes]:
    """Return the script that arrives on standard input, and the mark of its conversation."""
    text = sys.stdin.buffer.read()
    found = _BEGIN.search(text)
    return text, found[1] if found else b"none"


def _begun() -> bytes:
    """Take the script, and print on both streams what begins an answer. Return the mark."""
    _, mark = _script()
    for stream in (2, 1):
        _say(mark + b" begin\n", stream)
    return mark


def _end(mark: bytes, code: bytes) -> int:
    return sum(_say(b"\n" + mark + b" end " + code + b"\n", stream) for stream in (2, 1))


def _facts(change: Callable[[bytes], bytes]) -> None:
    """Run the script as an honest guest does, and pass each line of its output through `change`."""
    text, _ = _script()
    done = subprocess.run([*_SHELL, sys.argv[2]], input=text, capture_output=True, check=False)
    _say(b"".join(change(line) for line in done.stderr.splitlines(keepends=True)), 2)
    _say(b"".join(change(line) for line in done.stdout.splitlines(keepends=True)))
    sys.exit(done.returncode)


def _lie(text: bytes, *, keep: bool = False) -> None:
    """Answer every question with `text`, or append it to the true answer."""

    def change(line: bytes) -> bytes:
        if _ANSWER.match(line) or not line.strip():
            return line
        key = line.split(b" ")[0] + b" " if line.startswith((b"own ", b"disk ", b"gateway ")) else b""
        return (line.rstrip(b"\n") if keep else key) + text + b"\n"

    _facts(change)


def _marks(old: bytes, new: bytes) -> None:
    """Answer truthfully, with a word of each mark's line replaced."""
    _facts(lambda line: line.replace(old, new) if _ANSWER.match(line) else line)


def _honest() -> NoReturn:
    os.execv(_SHELL[0], [*_SHELL, sys.argv[2]])  # noqa: S606 - that is what a login shell does


def _noisy() -> None:
    """Be a shell that greets and takes leave, as with a .bashrc and a .bash_logout that print."""
    for stream in (1, 2):
        _say(b"Welcome!\n\xff\x1b[1mnews\x1b[0m\n\nno newline", stream)
    code = subprocess.run([*_SHELL, sys.argv[2]], check=False).returncode
    for stream in (1, 2):
        _say(b"\nGood bye.\n", stream)
    sys.exit(code)


def _child() -> None:
    """Answer, and leave a child behind that keeps the output open and prints on."""
    if os.fork():
        _honest()
    signal.alarm(_LIFE)  # a child has none of its parent's
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    time.sleep(2)
    _drip()


def _kill() -> NoReturn:
    """End the connection from the guest's side: the parent is sshd's process of this session."""
    os.kill(os.getppid(), signal.SIGKILL)
    _stay()


def _one_fact() -> int:
    """Begin the answer to the first question."""
    text, mark = _script()
    inner = next((each for each in _MARK.findall(text) if each != mark), b"none")
    _say(mark + b" begin\n")
    return _say(inner + b" fact 0\nhalf an ans")


def _suite(play: Callable[[], object]) -> None:
    """Be honest, but to what the suite of `inv verify` asks."""
    if "eval" in sys.argv[2]:
        play()
    _honest()


def _stubborn() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _begun()
    while True:
        with contextlib.suppress(OSError):
            _say(b"still here\n")
        time.sleep(0.05)


def _once_then(words: bytes, later: Callable[[], object]) -> None:
    """Say `words` on the first login and end as a broken connection does, and do `later` on the next ones."""
    flag = Path(sys.argv[0]).with_name("seen")
    if flag.exists():
        later()
    flag.touch()
    _say(words, 2)
    sys.exit(255)


def _words(text: bytes, code: int) -> NoReturn:
    _say(text, 2)
    sys.exit(code)


PLAYS: dict[str, Callable[[], object]] = {
    "honest": _honest,
    "noisy": _noisy,
    # Lies in facts
    "escapes": lambda: _lie(_EVIL, keep=True),
    "only-escapes": lambda: _lie(_EVIL),
    "nul": lambda: _lie(b"\0\xff\xfe\xc3\x28\0", keep=True),
    "brackets": lambda: _lie(b"[" * _DEEP),
    "braces": lambda: _lie(b'{"v1":' * 20_000),
    "digits": lambda: _lie(b"9" * _LONG),
    "shapes": lambda: _lie(b'{"v1": [{"errors": 7, "stage": null}], "a": [[]]}'),
    "empty": lambda: _lie(b""),
    "huge-facts": lambda: _lie(b"y" * 300_000),
    # Marks
    "doubled": lambda: _facts(lambda line: line + line),
    "swapped-marks": lambda: _marks(b" fact ", b" done "),
    "odd-marks": lambda: _marks(b" fact ", b" fact x"),
    "no-done": lambda: _facts(lambda line: b"" if b" done " in line else line),
    "long-code": lambda: _marks(b" end 0", b" end " + b"1" * _LONG),
    "long-done": lambda: _marks(b" done 0", b" done " + b"1" * _LONG),
    "odd-code": lambda: _marks(b" end 0", b" end 0x\x1b[2J"),
    "failed": lambda: _marks(b" end 0", b" end 999"),
    "two-begins": lambda: (_begun(), _begun(), _end(b"x", b"0")),
    "end-first": lambda: (_script(), _say(b"\x1eaaaa end 0\n"), sys.exit(0)),
    "beats": lambda: _flood(re.findall(rb"\x1e[0-9a-f]{24}", _script()[0])[-1] + b" beat\n"),
    # Floods
    "flood": lambda: (_begun(), _flood(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n")),
    "errors": lambda: (_begun(), _flood(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 2)),
    "one-line": lambda: (_begun(), _flood(b"x")),
    "newlines": lambda: (_begun(), _flood(b"\n")),
    "early-flood": lambda: _flood(b"Welcome!\n"),
    "early-errors": lambda: _flood(b"Welcome!\n", 2),
    "early-line": lambda: _flood(b"x", 2),
    "late-flood": lambda: (_end(_begun(), b"0"), _flood(b"more\n")),
    # Time
    "drip": lambda: (_begun(), _drip()),
    "early-drip": _drip,
    "silence": _stay,
    "mute": lambda: (_begun(), _stay()),
    "half-fact": lambda: (_one_fact(), _stay()),
    "stubborn": _stubborn,
    # Ends
    "gone": _kill,
    "gone-begun": lambda: (_begun(), _kill()),
    "gone-fact": lambda: (_one_fact(), _kill()),
    "gone-end": lambda: (_end(_begun(), b"0"), _kill()),
    "leaves": lambda: sys.exit(0),
    "leaves-begun": lambda: (_begun(), sys.exit(0)),
    "child": _child,
    # Words
    # Lies to the suite of `inv verify`, which asks by commands of its own
    "suite-flood": lambda: _suite(lambda: _flood(b"x" * 99 + b"\n")),
    "suite-errors": lambda: _suite(lambda: _flood(b"x" * 99 + b"\n", 2)),
    "suite-line": lambda: _suite(lambda: _flood(b"x")),
    "suite-drip": lambda: _suite(_drip),
    "suite-silence": lambda: _suite(_stay),
    "suite-gone": lambda: _suite(_kill),
    "suite-escapes": lambda: _suite(lambda: (_say(_EVIL + b"\n"), _words(_EVIL + b"\n", 3))),
    # Lies to the program of `inv backup`
    "databases": lambda: (_begun(), _many(b'{"database": "%d", "signature": [1,2,3,4,5]}\n')),
    "owners": lambda: (_begun(), _many(b'{"others": [["%d", "a", "b"]]}\n')),
    "no-shell": lambda: _words(b"\x1b[31mThis account is currently not available.\n", 1),
    "no-sudo": lambda: _words(b"sudo: unable to resolve host \x1b[5mbox\nsudo: a password is required\n", 1),
    "other-key": lambda: _words(b"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n", 255),
    "dialer": lambda: _once_then(
        b"ssh: proxy dialer did not pass back a connection\n", lambda: _flood(b"x" * 99 + b"\n", 2)
    ),
}


def main() -> None:
    """Play the behavior of the address that the client has connected to."""
    signal.alarm(_LIFE)
    folder = Path(sys.argv[0]).parent
    behaviors = json.loads((folder / "behaviors.json").read_text(encoding="utf-8"))
    address = os.environ["SSH_CONNECTION"].split()[2]
    with contextlib.suppress(BrokenPipeError):
        PLAYS[behaviors[address]]()


if __name__ == "__main__":
    main()
