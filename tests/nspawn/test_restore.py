"""A restore on a real system, where the gateway is a user unit of the account."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.backup.restore import Target, restore
from swarm.errors import Unfit, VerificationFailed
from swarm.inventory.backup import BackupSettings
from swarm.text import quote
from tests.integration.restored import make_state, manifest_of

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.ssh.guest import Guest
    from tools.lab import Machine

pytestmark = pytest.mark.slow

HOME, PORT = "/home/openclaw", 18789
# Ready unless its configuration contains the word bad. It records each start.
GATEWAY = """
import http.server, pathlib
config = pathlib.Path.home() / ".openclaw/openclaw.json"
with open(pathlib.Path.home() / "starts", "a") as starts:
    starts.write("start\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path != "/readyz" or "bad" in config.read_text() else 200)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 18789), Handler).serve_forever()
"""
UNIT = "[Service]\nExecStart=/usr/bin/python3 /home/openclaw/gateway.py\n[Install]\nWantedBy=default.target\n"


def as_account(command: str) -> str:
    """Return a command that runs as the account, with its user manager."""
    runtime = 'XDG_RUNTIME_DIR="/run/user/$(id -u openclaw)"'
    return f"runuser -u openclaw -- env {runtime} sh -c {quote(command)}"


def bring_rsync(guest: Guest) -> None:
    """Copy rsync and the libraries that the machine does not have. It runs the same release as this computer."""
    program = shutil.which("rsync")
    assert program
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *re.findall(r"=> (/\S+)", listed)]:
        if not guest.run(f"test -e {quote(path)}", warn=True).ok:
            guest.put(Path(path).resolve(), path)


@pytest.fixture
def account(machine: Machine, guest: Guest) -> Guest:
    """An account with a running gateway."""
    bring_rsync(guest)
    guest.run("id openclaw >/dev/null 2>&1 || useradd -m openclaw; loginctl enable-linger openclaw")
    machine.until("test -S /run/user/$(id -u openclaw)/bus", "the user manager of the account")
    units = ".config/systemd/user"
    write = (
        f"printf %s {quote(GATEWAY)} >gateway.py; printf %s {quote(UNIT)} >{units}/openclaw-gateway.service"
    )
    reset = f"cd {HOME} && rm -rf .openclaw* starts && mkdir -p .openclaw {units} && echo old >.openclaw/openclaw.json"
    guest.run(as_account(f"{reset} && {write} && systemctl --user daemon-reload"))
    guest.run(as_account("systemctl --user restart openclaw-gateway.service"))
    return guest


def test_the_gateways_unit_rests_while_the_files_are_swapped(
    account: Guest, talk: Talk, tmp_path: Path
) -> None:
    """The unit is stopped and started, the files belong to the account, and a bad state is undone."""
    mirror = make_state(tmp_path / "mirror")
    manifest = replace(manifest_of(mirror), user="openclaw")
    manifest = replace(
        manifest,
        entries=tuple(replace(each, owner="openclaw", group="openclaw") for each in manifest.entries),
    )
    target = Target(account, "zap", "openclaw", f"{HOME}/.openclaw", PORT)
    assert restore(target, mirror, manifest, BackupSettings(), talk).changed
    assert not restore(target, mirror, manifest, BackupSettings(), talk).changed
    assert account.run(
        f"cd {HOME} && stat -c '%U:%G %a' .openclaw .openclaw/.env; wc -l <starts"
    ).stdout.split("\n") == [
        "openclaw:openclaw 700",
        "openclaw:openclaw 600",
        "2",
        "",
    ]
    (mirror / "openclaw.json").write_text("bad")
    entries = {each.path: each for each in manifest_of(mirror).entries}
    bad = replace(entries["openclaw.json"], owner="openclaw", group="openclaw")
    manifest = replace(
        manifest, entries=tuple(bad if each.path == bad.path else each for each in manifest.entries)
    )
    with pytest.raises(VerificationFailed, match=r"HTTP status 503\); the old state is back"):
        restore(target, mirror, manifest, BackupSettings(), talk, ready_timeout=3)
    assert '"new"' in account.run(f"cat {HOME}/.openclaw/openclaw.json").stdout
    account.run(f"curl -fsS --retry 20 --retry-connrefused http://127.0.0.1:{PORT}/readyz")


def test_a_guest_without_a_gateway_is_restored_too(account: Guest, talk: Talk, tmp_path: Path) -> None:
    """Without a unit there is nothing to stop, which is said."""
    unit = f"{HOME}/.config/systemd/user/openclaw-gateway.service"
    account.run(
        as_account(f"systemctl --user stop openclaw-gateway; rm {unit}; systemctl --user daemon-reload")
    )
    mirror = make_state(tmp_path / "mirror")
    target = Target(account, "zap", "openclaw", f"{HOME}/.openclaw", PORT)
    assert restore(target, mirror, manifest_of(mirror), BackupSettings(), talk).changed


def test_a_guest_without_rsync_is_named(account: Guest, talk: Talk, tmp_path: Path) -> None:
    """A missing program is not taken for a failing connection."""
    program = shutil.which("rsync")
    account.run(f"mv {program} {program}.away")
    target = Target(account, "zap", "openclaw", f"{HOME}/.openclaw", PORT)
    mirror = make_state(tmp_path / "mirror")
    try:
        with pytest.raises(Unfit, match="zap: rsync is missing in the guest"):
            restore(target, mirror, manifest_of(mirror), BackupSettings(), talk)
    finally:
        account.run(f"mv {program}.away {program}")
