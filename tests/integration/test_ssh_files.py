"""Keys and configuration on disk: whole or not there, private from the first byte on, and made once."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.errors import Unfit
from swarm.files import write_atomically
from swarm.paths import ROOT
from swarm.ssh.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs


def python(code: str, *words: str) -> subprocess.Popen[str]:
    """Start a Python of its own that has swarm."""
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("dirs")
def test_two_processes_make_one_key() -> None:
    """Two commands that start at once on a fresh machine log in with the same key, and it is private."""
    processes = [
        python("from swarm import ssh; path = ssh.own_key(); print(path.read_text())") for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in processes)
    assert "PRIVATE KEY" in first
    assert first == second
    path = ssh.own_key()
    assert path.read_text().strip() == first.strip()
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    assert derived.split()[:2] == path.with_suffix(".pub").read_text().split()[:2]


def test_the_public_half_is_there_before_the_private_one(dirs: Dirs) -> None:
    """After a run was killed between the two writes, the next one creates a complete key pair."""
    folder = dirs.state / "ssh"
    folder.mkdir()
    (folder / "id_ed25519.pub").write_text("ssh-ed25519 AAAA stale\n", encoding="utf-8")
    path = ssh.own_key()
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    assert derived.split()[:2] == path.with_suffix(".pub").read_text().split()[:2]


def test_a_key_that_is_there_stays(dirs: Dirs) -> None:
    """An existing key is never replaced, since guests trust it."""
    assert dirs.state.is_dir()
    before = ssh.own_key().read_text()
    assert ssh.own_key().read_text() == before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"ssh-ed25519 AAAA other\n", None])
@pytest.mark.usefixtures("dirs")
def test_a_damaged_public_key_is_written_again(damage: bytes | None) -> None:
    """The public key comes from the private one, so that a public file that is damaged or gone is replaced."""
    public = ssh.own_key().with_suffix(".pub")
    good = public.read_bytes()
    public.unlink()
    if damage is not None:
        public.write_bytes(damage)
    assert f"{ssh.own_public_key()}\n".encode() == good == public.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"\xff", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
@pytest.mark.usefixtures("dirs")
def test_a_damaged_private_key_is_an_error_with_a_way_out(damage: bytes) -> None:
    """A private key that cannot be read is not replaced, since guests trust it: the error names the file."""
    path = ssh.own_key()
    path.write_bytes(damage)
    with pytest.raises(Unfit, match=f"private key {path} is damaged"):
        ssh.own_public_key()
    assert path.read_bytes() == damage


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"Host zap\n"])
def test_damaged_configuration_is_written_again(dirs: Dirs, damage: bytes) -> None:
    """Generated files that hold anything else, also what is not text, are replaced with what belongs there."""
    target = ssh.Target("zap", "127.0.0.1", dirs.hosts / "zap.known_hosts")
    other = ssh.Target("bee", "127.0.0.2", dirs.hosts / "bee.known_hosts")
    ssh.write_configs([other, target])
    files = (ssh.config_path(), ssh.part_path("zap"), ssh.part_path("bee"))
    good = [path.read_bytes() for path in files]
    for path in files:
        path.write_bytes(damage)
    assert Link(ssh.part_path("zap"), "zap").control_path  # as of a program that runs meanwhile
    ssh.write_configs([target, other])
    assert [path.read_bytes() for path in files] == good


@pytest.mark.parametrize("runtime", ["", "relative", "/nonexistent", "shared", "long"])
def test_sockets_are_in_a_folder_of_our_own(
    dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """Without a runtime directory that is the user's alone, sockets are in the state directory and never in /tmp."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / ("long" * 25)).mkdir()
    given = {"shared": str(tmp_path / "shared"), "long": str(tmp_path / ("long" * 25))}.get(runtime, runtime)
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    ssh.write_config(ssh.Target("zap", "127.0.0.1", dirs.hosts / "zap.known_hosts"))
    folder = Link(ssh.part_path("zap"), "zap").control_path.parent
    assert folder in {dirs.state / "run", Path(f"/run/user/{os.getuid()}/swarm")}
    assert mode(folder) == 0o700


def test_sockets_are_in_the_runtime_directory(dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own runtime directory holds the sockets, in a folder that only its owner can enter."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(dirs.cache))
    ssh.write_config(ssh.Target("zap", "127.0.0.1", dirs.hosts / "zap.known_hosts"))
    folder = Link(ssh.part_path("zap"), "zap").control_path.parent
    assert (folder, mode(folder)) == (dirs.cache / "swarm", 0o700)


_WRITER = """
import sys
from pathlib import Path
from swarm.files import write_atomically
print("ready", flush=True)
while True:
    for sign in "ab":
        write_atomically(Path(sys.argv[1]), sign * 300_000, mode=0o600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that replaces a file without end."""
    path = tmp_path / "file"
    path.write_text("a" * 300_000, encoding="utf-8")
    path.chmod(0o600)
    process = python(_WRITER, str(path))
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process, path
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_reader_never_sees_half_a_file(writer: tuple[subprocess.Popen[str], Path]) -> None:
    """While a file is replaced again and again, each reader, and a kill -9, finds one complete private version."""
    process, path = writer
    seen: set[str] = set()
    while len(seen) < 2:
        assert process.poll() is None
        with path.open(encoding="utf-8") as file:
            text = file.read()
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
        assert (len(text), len(set(text))) == (300_000, 1)
        seen.add(text[0])
    for other in path.parent.iterdir():  # what is not finished is no more public than what is
        try:
            assert mode(other) == 0o600
        except FileNotFoundError:
            continue
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = path.read_text(encoding="utf-8")
    assert (len(text), len(set(text))) == (300_000, 1)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """If a file cannot be written, the old one stays and no scratch file is left."""
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert [(entry.name, entry.read_text(encoding="utf-8")) for entry in tmp_path.iterdir()] == [
        ("file", "old")
    ]


@pytest.mark.parametrize("wanted", [0o600, 0o644, 0o640])
def test_the_mode_is_the_one_asked_for(tmp_path: Path, wanted: int) -> None:
    """Also where an older file of that name was open to everybody, and whatever the umask."""
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o666)
    before = os.umask(0)
    try:
        write_atomically(path, "x", mode=wanted)
    finally:
        os.umask(before)
    assert mode(path) == wanted


def test_no_moment_is_wider_than_the_end(tmp_path: Path) -> None:
    """While a private file is written under any umask, its folder never holds a file that others can read."""
    path, done = tmp_path / "file", threading.Event()
    modes: set[int] = set()

    def watch() -> None:
        while not done.is_set():
            for entry in os.scandir(tmp_path):
                try:
                    modes.add(stat.S_IMODE(entry.stat().st_mode))
                except FileNotFoundError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    before = os.umask(0)
    try:
        for _ in range(10):
            write_atomically(path, "x" * 100_000, mode=0o600)
    finally:
        os.umask(before)
        done.set()
        thread.join()
    assert modes == {0o600}


def test_hosts_side_by_side_write_one_configuration(dirs: Dirs) -> None:
    """Sixteen hosts of one run, in threads, all end up in the configuration that they share."""
    names = [f"host{number}" for number in range(16)]

    def write(name: str) -> None:
        ssh.write_config(ssh.Target(name, "127.0.0.1", dirs.hosts / f"{name}.known_hosts"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, names))
    text = ssh.config_path().read_text(encoding="utf-8")
    assert sorted(line.split()[1] for line in text.splitlines() if line.startswith("Host ")) == sorted(names)
    assert mode(ssh.config_path()) == 0o600


def test_a_kept_connection_is_not_lost_to_another_hosts_change(dirs: Dirs) -> None:
    """The kept connection of one host goes by that host's address and pinned key, whatever becomes of the others."""

    def write(name: str, address: str = "127.0.0.1") -> None:
        ssh.write_config(ssh.Target(name, address, dirs.hosts / f"{name}.known_hosts"))

    def socket() -> str:
        options = Link(ssh.part_path("zap"), "zap").options()
        return next(option for option in options if option.startswith("ControlPath="))

    write("zap")
    before = socket()
    write("bee")
    (dirs.hosts / "bee.known_hosts").write_text("bee ssh-ed25519 AAAA\n", encoding="utf-8")
    assert socket() == before
    write("zap", "127.0.0.2")
    assert socket() != before


def test_a_forgotten_host_is_gone_from_the_configuration(dirs: Dirs) -> None:
    """After destroy nothing leads to the old address any more, and the other hosts stay."""
    for name in ("zap", "bee"):
        ssh.write_config(ssh.Target(name, "127.0.0.1", dirs.hosts / f"{name}.known_hosts"))
    ssh.forget("zap")
    ssh.forget("never-written")
    text = ssh.config_path().read_text(encoding="utf-8")
    assert "Host bee\n" in text
    assert "zap" not in text


def test_a_pin_names_the_guest_and_its_key(tmp_path: Path) -> None:
    """The file is OpenSSH's own format, and what was pinned is read back."""
    path = tmp_path / "zap.known_hosts"
    assert ssh.pinned(path) is None
    public = ssh.keypair("comment here")[1]
    ssh.pin(path, ["zap", "192.168.122.9"], public)
    assert ssh.pinned(path) == " ".join(public.split()[:2])
    derived = subprocess.run(
        ["ssh-keygen", "-F", "192.168.122.9", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    assert public.split()[1] in derived
