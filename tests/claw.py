"""A machine whose agent has the account claw: a real sshd, with a host file and a pinned key."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarm import access, ssh
from swarm.inventory import load
from swarm.ssh.guest import Guest
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

__all__ = ["STATE", "claw"]

STATE = "/home/claw/.openclaw"
_FILE = """hypervisor: {{uri: none}}
machine: {{address: 127.0.0.1, hostname: vm, port: {port}}}
openclaw: {{user: claw}}
"""


@contextmanager
def claw(dirs: Dirs, folder: Path) -> Iterator[Guest]:
    """Run the machine during the block, with sshd's files in a new `folder`. Give a connection to it.

    It has mounts of its own, and claw has no home yet.
    """
    folder.mkdir()
    key = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    with Sshd(folder, [key]) as server:
        with (folder / "passwd").open("a", encoding="utf-8") as accounts:
            accounts.write("claw:x:1501:1501::/home/claw:/bin/sh\n")
        (dirs.hosts / "claw.yaml").write_text(_FILE.format(port=server.port), encoding="utf-8")
        host = load("claw")
        ssh.pin(host.known_hosts, ["claw"], server.public)
        made = Guest(access.reach(host), "claw")
        yield made
        made.close()
