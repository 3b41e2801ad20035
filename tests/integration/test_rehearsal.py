"""What a drill finds wrong in its guest, against a real sshd, rsync, SQLite and HTTP server."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import sqlite3
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup.recover import Origin
from swarm.backup.rehearsal import Check, restored, started
from swarm.console import Screen, Talk
from swarm.errors import VerificationFailed
from swarm.ssh.guest import Guest
from swarm.text import quote
from tests import samples
from tests.integration.restored import make_state, manifest_of
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.inventory import Host
    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")

ACCOUNT = 1501
LIMIT = 8.0  # seconds of a drill's waiting: more than a command over SSH takes on a loaded machine
PATH = "/home/openclaw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DATABASE = "state/openclaw.sqlite"
# Stand-ins for programs that only a real guest has.
PROGRAMS = {
    "systemctl": "#!/bin/sh\nexit 0\n",
    "openclaw": '#!/bin/sh\n[ "$*" = "config validate --json" ] && grep . ~/.openclaw/openclaw.json &&'
    " ! grep -q invalid ~/.openclaw/openclaw.json\n",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the account openclaw, with its programs."""
    made = tmp_path_factory.mktemp("homes") / "openclaw"
    made.parent.chmod(0o755)
    (made / "bin").mkdir(parents=True)
    (made / ".profile").write_text('PATH="$HOME/bin:$PATH"\n')
    for name, text in PROGRAMS.items():
        (made / "bin" / name).write_text(text)
        (made / "bin" / name).chmod(0o755)
    os.chown(made, ACCOUNT, ACCOUNT)
    return made


@pytest.fixture(scope="module")
def guest(home: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest of its own, whose host name a drill may set."""
    folder = tmp_path_factory.mktemp("drilled")
    public = keys.with_suffix(".pub").read_text(encoding="utf-8")
    with Sshd(folder, [public], settings=f"SetEnv PATH={PATH}") as server:
        with (folder / "passwd").open("a", encoding="utf-8") as accounts:
            accounts.write(f"openclaw:x:{ACCOUNT}:{ACCOUNT}::/home/openclaw:/bin/sh\n")
        ssh.write_config(server.target(folder / "drilled.known_hosts", keys, name="drilled"))
        made = Guest(ssh.part_path("drilled"), "drilled")
        made.check(f"mount --bind {quote(home.parent)} /home", "mounting the homes")
        yield made
        made.close()


@pytest.fixture
def host(dirs: Dirs, home: Path) -> Host:
    """The host whose archive is drilled. Its guest has no state yet."""
    assert dirs
    for left in home.glob(".openclaw*"):
        shutil.rmtree(left)
    return samples.host("zap", hostname="drilled-zap")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """An unpacked archive."""
    tree = make_state(tmp_path / "tree")
    return Origin("an archive", tree, manifest_of(tree))


class Meddling(Talk):
    """A talk that changes the guest's state directory right after the restore, before a drill compares it."""

    def __init__(self, state: Path) -> None:
        super().__init__(Screen(), quiet=True, log=self.heard)
        self.state = state

    def heard(self, text: str) -> None:
        """Meddle when the files are swapped."""
        if not text.startswith("✓ swap the files"):
            return
        (self.state / "openclaw.json").write_text("{}")
        (self.state / "identity/key").unlink()
        (self.state / "hooks/new.js").write_text("not archived")
        with contextlib.closing(sqlite3.connect(self.state / DATABASE)) as database:
            database.execute("DELETE FROM said WHERE rowid = 1")
            database.commit()


def checks(guest: Guest, host: Host, origin: Origin, talk: Talk | None = None) -> dict[str, Check]:
    """Restore as a drill does, and return its checks by name."""
    found = restored(guest, host, host, origin, talk or Talk(Screen(), quiet=True))
    return {each.name: each for each in found}


def test_a_faithful_restore_passes(guest: Guest, host: Host, origin: Origin) -> None:
    """A drill counts the files and databases that equal the manifest, in a guest with the original's host name."""
    found = checks(guest, host, origin)
    files = sum(each.kind in {"file", "hard"} for each in origin.manifest.entries)
    assert found == {
        "files": Check("files", ok=True, text=f"{files} files equal the manifest"),
        "databases": Check("databases", ok=True, text="1 databases are sound, with all their rows"),
    }
    assert guest.run("hostname && tail -n 1 /etc/hosts").stdout == "drilled-zap\n127.0.1.1 drilled-zap\n"
    assert socket.gethostname() != "drilled-zap"


def test_what_differs_after_the_restore_fails(guest: Guest, host: Host, origin: Origin, home: Path) -> None:
    """A file that changed, one that is missing, one too many and a missing row each fail the drill by their path."""
    found = checks(guest, host, origin, Meddling(home / ".openclaw"))
    assert [each.ok for each in found.values()] == [False, False]
    for problem in (
        "openclaw.json: differs",
        "identity/key: missing",
        "hooks/new.js: not in the archive",
        f"{DATABASE}: differs",
    ):
        assert problem in found["files"].text
    assert found["databases"].text == f"{DATABASE}: said has 199 rows, expected 200"


def test_rows_that_the_manifest_has_and_the_archive_lacks_fail(
    guest: Guest, host: Host, origin: Origin
) -> None:
    """A database whose bytes are right fails if a table has other rows than the manifest lists, or is missing."""
    manifest = replace(origin.manifest, databases={DATABASE: {"said": 201, "tasks": 1}})
    found = checks(guest, host, replace(origin, manifest=manifest))
    assert (found["files"].ok, found["databases"].ok) == (True, False)
    assert f"{DATABASE}: " in found["databases"].text


def test_a_link_that_is_not_in_the_archive_fails(guest: Guest, host: Host, origin: Origin) -> None:
    """A link that the manifest lists and that could not be restored fails the drill by its path."""
    (origin.tree / "hooks/passwd").unlink()
    found = checks(guest, host, origin)
    assert (found["files"].ok, found["databases"].ok) == (False, True)
    assert "hooks/passwd: missing" in found["files"].text


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_an_archive_that_is_not_what_its_manifest_lists_fails(
    guest: Guest, host: Host, origin: Origin, harm: str
) -> None:
    """A file that differs in the unpacked archive, or that it lacks, ends the drill with its path."""
    victim = origin.tree / "identity/key"
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    with pytest.raises(VerificationFailed, match="nothing was changed: identity/key: "):
        checks(guest, host, origin)


# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def gateway(healthz: int, readyz: int) -> Iterator[int]:
    """Serve these status codes. Give the port."""
    codes = {"/healthz": healthz, "/readyz": readyz}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[self.path])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def begun(guest: Guest, host: Host, home: Path, config: str, port: int) -> dict[str, Check]:
    """Start the gateway as a drill does, with this configuration, and return the checks by name."""
    (home / ".openclaw").mkdir(exist_ok=True)
    (home / ".openclaw").chmod(0o755)
    (home / ".openclaw/openclaw.json").write_text(config)
    (home / ".openclaw/openclaw.json").chmod(0o644)
    here = host.model_copy(update={"openclaw": host.openclaw.model_copy(update={"port": port})})
    return {each.name: each for each in started(guest, here, Talk(Screen(), quiet=True), LIMIT)}


def test_a_ready_gateway_passes(guest: Guest, host: Host, home: Path) -> None:
    """A configuration that OpenClaw accepts, and a gateway that says it is ready, pass."""
    with gateway(200, 200) as port:
        found = begun(guest, host, home, "{}", port)
    assert found["configuration"] == Check("configuration", ok=True, text="valid")
    assert found["gateway"] == Check("gateway", ok=True, text="ready")


@pytest.mark.slow
def test_a_gateway_that_lives_passes(guest: Guest, host: Host, home: Path) -> None:
    """Offline, a gateway that lives and is not ready passes, and the check says so."""
    with gateway(200, 503) as port:
        found = begun(guest, host, home, "{}", port)
    assert found["gateway"].ok
    assert "not ready offline (HTTP status 503)" in found["gateway"].text


@pytest.mark.slow
def test_a_refused_configuration_and_a_dead_gateway_fail(guest: Guest, host: Host, home: Path) -> None:
    """A configuration that OpenClaw refuses fails with its message, a gateway that does not answer with the reason."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = begun(guest, host, home, '{"invalid": "\x1b"}', free.getsockname()[1])
    assert found["configuration"] == Check("configuration", ok=False, text='{"invalid": "\\x1b"}')
    assert not found["gateway"].ok
    assert "it does not answer (" in found["gateway"].text
    assert "refused" in found["gateway"].text
