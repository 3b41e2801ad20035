"""`inv hook.tail` as a person runs it: a process, a terminal's signals, and clients over loopback."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT
from tests.agentmon_events import event

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60  # seconds, on a loaded machine


@contextmanager
def tailing(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port. Give its process and the URL that it names."""
    command = [
        sys.executable,
        "-P",
        str(ROOT / "swarm" / "__main__.py"),
        "hook.tail",
        "--port",
        "0",
        *options,
    ]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", cwd=ROOT)
    try:
        assert process.stderr
        first = process.stderr.readline()
        found = re.search(r"http://\S+/v1/events", first)
        assert found, first
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def send(url: str, *events: dict[str, object]) -> None:
    """Send events as one array."""
    request = urllib.request.Request(url, json.dumps(events).encode())  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - as above
        assert answer.status == 202


def test_json_is_one_event_per_line() -> None:
    """With --json, stdout holds exactly what was sent, one event per line, and Ctrl-C ends it with a summary."""
    sent = [event(seq=1, payload={"text": "two\nlines\x1b[31m\x7f\u202e"}), event(seq=2)]
    with tailing("--json") as (process, url):
        send(url, *sent)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == sent
    assert "\x1b" not in out
    assert "2 events from 1 host" in err


def test_the_table_has_a_line_for_each_event() -> None:
    """Without --json, each event is a line below the header, and a gap stands before the event that shows it."""
    with tailing() as (process, url):
        send(url, event(seq=1), event(seq=4, type="error"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    header, *rows = out.splitlines()
    assert header.split() == ["time", "host", "type", "session", "run", "what"]
    assert [row.split()[2] for row in rows if "↳" not in row] == ["span.end", "error"]
    assert "gap: 2 events missing (seq 2 to 3)" in rows[1]
    assert "2 events from 1 host, 2 missing" in err


def test_a_host_is_shown_alone() -> None:
    """With --host, other hosts' events are accepted and not shown, and --count ends the command."""
    with tailing("--host", "zap", "--json", "--count", "1") as (process, url):
        send(url, event(client_id="other"))
        send(url, event(client_id="zap", id="mine"))
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(out)["event"]["id"] == "mine"
    assert "1 event from 1 host" in err


def test_a_stopped_reader_stops_the_command() -> None:
    """When the program that reads stdout ends, the client is not told that its event was stored."""
    with tailing("--json") as (process, url):
        assert process.stdout
        process.stdout.close()
        with pytest.raises(OSError):  # noqa: PT011 - 503, or the connection ends with the process
            send(url, event())
        assert process.wait(PATIENCE) != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--count", "-1"], "--count is negative"),
        (["--token-env", "SWARM_NO_SUCH"], "the environment variable SWARM_NO_SUCH is not set"),
        (["--bind", "192.0.2.1"], "can't listen on 192.0.2.1:8080"),
    ],
)
def test_a_wrong_option_is_explained(options: list[str], message: str) -> None:
    """An option that can't work is one sentence and an exit code, not a traceback."""
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), "hook.tail", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=ROOT)
    assert done.returncode
    assert message in done.stderr
    assert "Traceback" not in done.stderr
