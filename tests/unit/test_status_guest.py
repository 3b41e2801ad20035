"""The script that asks a guest about itself, and what is made of its answer."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.fleet.guest import inside, script
from swarm.fleet.status import Inside
from swarm.inventory import InstallSettings
from swarm.templates import render

ANSWER = b"disk 1000 3000\ngateway 200\nown version 2026.11.2 spool 2 4096 "


def test_an_answer_becomes_facts() -> None:
    """Each line of the answer becomes its facts, in bytes."""
    assert inside(ANSWER) == Inside("2026.11.2", "ready", 1000 * 1024, 3000 * 1024, (2, 4096))
    assert inside(ANSWER).ratio == 0.25


@pytest.mark.parametrize(
    ("code", "word"),
    [("200", "ready"), ("503", "not ready"), ("000", "no answer"), ("0", "no answer"), ("", "")],
)
def test_the_gateway_in_a_word(code: str, word: str) -> None:
    """The status code of /readyz becomes a word, and no code means that it could not be asked."""
    assert inside(f"gateway {code}\n".encode()).gateway == word


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"own ",
        b"disk a b\n",
        b"disk 1\n",
        b"disk -1 5",
        "disk \u0661 \u0662".encode(),
        "gateway \u0662\u0660\u0660".encode(),
        b"own version ../../etc x",
        b"own version <script> spool x 1",
        b"own spool 99999999999999999999 1",
    ],
)
def test_what_is_malformed_is_unknown(answer: bytes) -> None:
    """A malformed answer makes facts unknown. It is never shown."""
    assert inside(answer) == Inside()


def test_what_the_user_owns_cannot_pass_for_what_root_has_seen() -> None:
    """Only the first line of a kind counts, and the agent's user has no line of its own before it."""
    assert inside(b"disk 1 3\ngateway 503\nown version 1.2.3 \ndisk 9 1\ngateway 200\n") == Inside(
        "1.2.3", "not ready", 1024, 3072
    )


@given(st.binary(max_size=300))
def test_no_answer_is_an_error(answer: bytes) -> None:
    """Whatever a guest says, facts result, and they are bounded."""
    found = inside(answer)
    assert len(found.openclaw) <= 65
    assert found.ratio is None or 0 <= found.ratio <= 1


def own(folder: Path, *, spool: bool = True) -> str:
    """Run the part of the script that reads the agent's own files."""
    text = render(
        "guest/status-own.sh.j2", development=False, checkout="", shim=str(folder / "shim"),
        spool=str(folder / "spool") if spool else "",
    )  # fmt: skip
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_the_version_is_that_of_the_installed_package(tmp_path: Path) -> None:
    """The version is read where the program's shim leads to."""
    (tmp_path / "package.json").write_text(
        '{\n  "name": "openclaw",\n  "version": "2026.11.2"\n}\n', encoding="utf-8"
    )
    (tmp_path / "shim").write_text(
        f"#!/bin/sh\n# cmd-shim-target={tmp_path}/openclaw.mjs\n", encoding="utf-8"
    )
    assert own(tmp_path, spool=False) == "version 2026.11.2"


def test_spooled_events_are_counted(tmp_path: Path) -> None:
    """The log files of the spool are counted with their bytes, and nothing else is."""
    assert own(tmp_path) == "spool 0 0"
    folder = tmp_path / "spool"
    folder.mkdir()
    assert own(tmp_path) == "spool 0 0"
    (folder / "a b.log").write_bytes(b"x" * 10)
    (folder / "c.log").write_bytes(b"x" * 5)
    (folder / "state.json").write_bytes(b"x" * 100)
    (folder / "link.log").symlink_to(folder / "state.json")
    assert own(tmp_path) == "spool 2 15"


def test_the_script_asks_the_gateway_on_its_own_port() -> None:
    """The script names the port and the user of the host file, and leaves the spool out unless it is asked for."""
    text = script(InstallSettings(port=2000, user="claw"), spool=False)
    assert "/dev/tcp/127.0.0.1/2000" in text
    assert "getent passwd claw" in text
    assert "agentmon" not in text
    assert "/home/claw/.openclaw/agentmon" in script(InstallSettings(user="claw"), spool=True)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "ready"),
        (b"HTTP/1.1 503 no\r\n\r\n", "not ready"),
        (b"x" * 99, "no answer"),
        (b"", "no answer"),
    ],
)
def test_the_script_asks_the_gateway_itself(said: bytes, word: str) -> None:
    """The script sends one request for /readyz and reads the first line of the answer, if it is a short one."""
    asked: list[bytes] = []

    def answer() -> None:
        with listener.accept()[0] as client:
            client.settimeout(20)
            request = client.recv(4096)
            while not request.endswith(b"\r\n\r\n") and (more := client.recv(4096)):
                request += more
            asked.append(request)
            client.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        gateway = threading.Thread(target=answer)
        gateway.start()
        text = script(InstallSettings(port=listener.getsockname()[1], user="nobody"), spool=True)
        done = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True)
        gateway.join()
    assert asked[0].startswith(b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1:")
    found = inside(done.stdout)
    assert (found.gateway, done.stderr) == (word, b"")
    assert found.ratio is not None


def test_a_silent_gateway_holds_up_no_status(tmp_path: Path) -> None:
    """A gateway that accepts and does not answer is given up after five seconds, and leaves no process behind."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = script(InstallSettings(port=listener.getsockname()[1], user="nobody"), spool=False)
        environment = {**os.environ, "SILENT": str(tmp_path)}
        done = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True, env=environment)
    assert inside(done.stdout).gateway == "no answer"
    mark = f"SILENT={tmp_path}".encode()
    assert not [each for each in Path("/proc").glob("[0-9]*") if mark in environ(each)]


def environ(process: Path) -> bytes:
    """Return the environment of a process, or nothing if it has ended or is another user's."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
