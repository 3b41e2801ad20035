"""Guest against OpenSSH's own server: commands, scripts, files and errors."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invoke.exceptions import UnexpectedExit

from swarm import ssh
from swarm.errors import CommandFailed, UsageError
from swarm.paths import ROOT
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import ConnectionLost, KeyRefused, NoAnswer
from swarm.ssh.session import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sshd import Sshd

WAITING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from swarm.ssh.link import Link

signal.signal(signal.SIGINT, signal.default_int_handler)
take = lambda line: print(line.decode(), flush=True)
try:
    Link(Path(sys.argv[1]), sys.argv[2]).script("echo begun; sleep 60", take).join()
except KeyboardInterrupt:
    # Flushed at once: at Python's end, the thread that printed the line may still hold the lock of stdout.
    try:
        print(os.waitpid(-1, os.WNOHANG), flush=True)
    except ChildProcessError:
        print("no process is left", flush=True)
"""
SLACK = 20.0  # seconds that a loaded machine may need


def lines_of(guest: Guest, script: str, limits: Limits | None = None) -> tuple[int | None, list[bytes]]:
    """Run a script to its end, and return its exit code and lines."""
    lines: list[bytes] = []
    return guest.script(script, lines.append, limits).join().exited, lines


def test_a_command_has_output_error_output_and_an_exit_code(guest: Guest) -> None:
    """run() returns Invoke's Result, with both streams apart."""
    done = guest.run("printf 'one\\ntwo'; echo three >&2; exit 7", warn=True)
    assert (done.stdout, done.stderr, done.exited, done.ok) == ("one\ntwo", "three\n", 7, False)


def test_a_failure_raises_as_in_fabric(guest: Guest) -> None:
    """Without `warn`, another exit code than 0 is Invoke's UnexpectedExit."""
    with pytest.raises(UnexpectedExit) as caught:
        guest.run("exit 3")
    assert caught.value.result.exited == 3


def test_a_promise_is_invokes(guest: Guest) -> None:
    """With asynchronous=True the command is under way, and join() waits for its Result."""
    promise = guest.run("sleep 0.2; echo later", asynchronous=True)
    assert promise.join().stdout == "later\n"


def test_a_command_gets_its_environment(guest: Guest) -> None:
    """Environment, directory and prefix work as in Fabric, whatever characters they contain."""
    value = 'it\'s $(id) `id`\n"quoted"'
    assert guest.run('printf %s "$WORDS"', env={"WORDS": value}).stdout == value
    with guest.cd("/usr"), guest.prefix("X=1"):
        assert guest.run("pwd; echo $X").stdout == "/usr\n1\n"
    with pytest.raises(UsageError, match="is not the name of an environment variable"):
        guest.run("true", env={"A; id": "x"})


def test_shown_output_has_no_control_characters(guest: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    """A guest's output is shown with escaped control characters, and returned unchanged."""
    done = guest.run("printf '\\033[31mred\\n'", hide=False)
    assert done.stdout == "\x1b[31mred\n"
    assert capsys.readouterr().out == "\\x1b[31mred\n"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("true", []),
        ("echo", [b""]),
        ("printf x", [b"x"]),
        ("echo x", [b"x"]),
        ("echo x; echo", [b"x", b""]),
        ("echo; echo x; echo y >&2", [b"", b"x", b"y"]),
        ("printf 'a\\n\\n\\nb'", [b"a", b"", b"", b"b"]),
    ],
)
def test_lines_arrive_exactly(guest: Guest, script: str, expected: list[bytes]) -> None:
    """Exactly the lines that the script prints to both streams are handed over, empty ones too."""
    assert lines_of(guest, script) == (0, expected)


def test_lines_arrive_as_they_are_printed(guest: Guest, tmp_path: Path) -> None:
    """A line is handed over when it is printed, not when the script ends."""
    seen: list[bytes] = []
    flag = tmp_path / "go"

    def take(line: bytes) -> None:
        seen.append(line)
        flag.touch()

    # The script waits for what happens on its first line. If that came late, only the limit would end it.
    guest.script(
        f"echo ready; until [ -e {flag} ]; do sleep 0.1; done; echo went", take, Limits(total=60)
    ).join()
    assert seen == [b"ready", b"went"]


def test_an_error_of_the_reader_is_raised(guest: Guest) -> None:
    """An exception of `take` ends the conversation, and join() raises it."""

    def take(_: bytes) -> None:
        raise CommandFailed("enough")

    with pytest.raises(CommandFailed, match="enough"):
        guest.script("while :; do echo x; done", take).join()


@settings(max_examples=20)
@given(st.binary(max_size=2000))
def test_any_bytes_arrive(guest: Guest, data: bytes) -> None:
    """Every byte of the output arrives unchanged."""
    octal = "".join(f"\\{byte:03o}" for byte in data)
    _, lines = lines_of(guest, f"printf '{octal}'")
    assert b"\n".join(lines) == (data[:-1] if data.endswith(b"\n") else data)


def test_a_script_of_any_size_arrives(guest: Guest) -> None:
    """A script larger than any command line arrives completely, and appears in no process list."""
    text = "x" * 3_000_000
    assert lines_of(guest, f'text={text}\necho "${{#text}}"') == (0, [b"3000000"])


def test_half_a_script_does_not_run(guest: Guest, tmp_path: Path) -> None:
    """A script that the shell cannot read does not run at all, and the error says so."""
    with pytest.raises(CommandFailed, match=r"guest: the guest could not read the script: .*"):
        guest.run(f"touch {tmp_path}/half; if true; then")
    assert not (tmp_path / "half").exists()


def test_a_command_has_no_input(guest: Guest) -> None:
    """A command that reads standard input finds it empty, and does not consume the rest of the script."""
    assert guest.run("cat; echo after").stdout == "after\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"pty": True}, "has no terminal"), ({"in_stream": None}, "")],
)
def test_what_has_no_meaning_is_refused(guest: Guest, options: dict[str, object], message: str) -> None:
    """A terminal is refused with a hint. Without an input, standard input is empty."""
    if message:
        with pytest.raises(UsageError, match=message):
            guest.run("true", **options)
    else:
        assert guest.run("true", **options).ok


def test_tunnels_are_for_ssh(guest: Guest) -> None:
    """Features of Fabric's Connection that need its own SSH client are refused."""
    for method in (guest.shell, guest.sftp, guest.open_gateway, guest.create_session):
        with pytest.raises(UsageError, match="a Guest offers run, sudo, put and get"):
            method()


def test_commands_share_one_connection(guest: Guest, server: Sshd) -> None:
    """Only the first command logs in."""
    guest.run("true")
    before = server.log().count("Accepted publickey")
    guest.run("true")
    guest.script("true", lambda _: None).join()
    assert server.log().count("Accepted publickey") == before
    assert guest.is_connected


def test_leaving_the_block_keeps_the_connection(guest: Guest) -> None:
    """A `with` block ends only a connection that was started and not used."""
    with guest:
        guest.run("true")
    assert guest.is_connected


def test_a_connection_that_is_given_up_is_replaced(guest: Guest) -> None:
    """If a script can't be prepared, the started connection ends and the next command connects."""
    with pytest.raises(CommandFailed), guest.connecting():
        raise CommandFailed("nothing to send")
    assert guest.run("echo fresh").stdout == "fresh\n"


def test_a_cut_connection_is_lost(guest: Guest) -> None:
    """A connection that breaks while a command runs is reported as lost."""
    with pytest.raises(ConnectionLost, match="guest: the connection broke while a command was running"):
        # What the command says first must have left sshd before that dies.
        guest.script("sleep 1; kill -9 $PPID; sleep 30; echo over", lambda _: None, Limits(total=60)).join()


def test_ctrl_c_ends_the_conversation(guest: Guest) -> None:
    """Ctrl-C passes through the one who waits for a script, and leaves no ssh behind."""
    guest.run("true")
    argv = [sys.executable, "-P", "-c", WAITING, str(guest.link.config), str(guest.alias)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == "begun\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.stdout.read() == "no process is left\n"
    assert guest.is_connected


def test_a_dead_kept_connection_is_replaced(guest: Guest) -> None:
    """A kept connection whose master process has ended is replaced, and the command runs."""
    guest.run("true")
    master = subprocess.run(
        [*guest.link.command(), "-O", "check", "guest"], capture_output=True, text=True, check=True
    )
    pid = int(master.stderr.split("pid=")[1].split(")")[0])
    os.kill(pid, signal.SIGKILL)  # it cannot remove its socket
    assert guest.run("echo back").stdout == "back\n"


def test_a_renewed_connection_cuts_nobody_off(guest: Guest, server: Sshd) -> None:
    """renew() makes the next command log in again, while a command over the kept connection finishes."""
    guest.run("true")
    before = server.log().count("Accepted publickey")
    lines: list[bytes] = []
    begun = threading.Event()

    def take(line: bytes) -> None:
        lines.append(line)
        begun.set()

    running = guest.script("echo begun; sleep 1; echo finished", take)
    assert begun.wait(SLACK)
    guest.renew()
    assert guest.run("echo next").stdout == "next\n"
    assert running.join().ok
    assert lines == [b"begun", b"finished"]
    assert server.log().count("Accepted publickey") == before + 1


def test_a_new_pin_means_a_new_connection(server: Sshd, keys: Path, tmp_path: Path) -> None:
    """A kept connection is no longer used once another key is pinned."""
    pins = tmp_path / "pins"
    ssh.write_config(server.target(pins, keys, name="pinned"))
    first = Guest(ssh.part_path("pinned"), "pinned")
    first.run("true")
    ssh.pin(pins, ["pinned"], ssh.keypair("other")[1])
    with pytest.raises(KeyRefused):
        Guest(ssh.part_path("pinned"), "pinned").run("true")
    first.close()


def test_an_address_that_leads_nowhere_is_no_answer(server: Sshd, keys: Path, tmp_path: Path) -> None:
    """A name that can't be resolved is reported as "no answer", with the name."""
    ssh.pin(tmp_path / "pins", ["lost"], server.public)
    ssh.write_config(ssh.Target("lost", "nowhere.invalid", tmp_path / "pins", identity=keys))
    with pytest.raises(NoAnswer, match="lost: "):
        Guest(ssh.part_path("lost"), "lost").run("true")


def test_a_configuration_that_ssh_rejects_is_named(tmp_path: Path) -> None:
    """An SSH configuration that is missing or wrong is named."""
    wrong = tmp_path / "config"
    wrong.write_text("Host x\n  Usser root\n")
    with pytest.raises(Exception, match=f"x: ssh rejects its configuration {wrong}"):
        Guest(wrong, "x").run("true")
    with pytest.raises(UsageError, match="there is no SSH configuration"):
        Guest(tmp_path / "none", "x").run("true")


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_files_are_copied_both_ways(guest: Guest, tmp_path: Path, size: int) -> None:
    """put() and get() copy content and mode, whatever the name, and replace the target atomically."""
    source, there, back = tmp_path / "a 'file'", tmp_path / "b $(id) [x]", tmp_path / "back"
    source.write_bytes(os.urandom(size))
    source.chmod(0o640)
    there.write_text("old")
    guest.put(source, str(there))
    guest.get(str(there), back)
    for copy in (there, back):
        assert copy.read_bytes() == source.read_bytes()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({source.name, there.name, back.name})


def test_files_are_copied_into_directories(guest: Guest, tmp_path: Path) -> None:
    """A target that is a directory gets a file of the same name, readable by all where the mode is not kept."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    source = tmp_path / "file"
    source.write_text("text")
    source.chmod(0o600)
    guest.put(source, str(tmp_path / "there"), preserve_mode=False)
    guest.get(str(tmp_path / "there" / "file"), tmp_path / "here")
    assert (tmp_path / "here" / "file").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "there" / "file").stat().st_mode) == 0o644


def test_a_copy_that_fails_leaves_nothing(guest: Guest, tmp_path: Path) -> None:
    """A missing source or target directory raises a one-line error and leaves no partial file."""
    source = tmp_path / "file"
    source.write_text("text")
    with pytest.raises(CommandFailed, match="guest: copying /nonexistent/x failed: "):
        guest.get("/nonexistent/x", tmp_path / "x")
    with pytest.raises(CommandFailed, match=f"guest: copying {source} to /nonexistent/x failed: "):
        guest.put(source, "/nonexistent/x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
