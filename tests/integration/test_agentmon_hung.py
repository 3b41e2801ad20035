"""The proof of agentmon's hook in a guest in which a command hangs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from swarm import inventory, ssh
from swarm.agentmon.deploy import prove
from swarm.console import Screen, Talk
from swarm.errors import CommandFailed
from swarm.ssh.guest import Guest
from tests import samples
from tests.sshd import Sshd

if TYPE_CHECKING:
    from pathlib import Path


HANGS = {"looks": "test() { sleep 90; }", "clock": "test() { :; }; date() { sleep 90; }"}


def message(name: str, keys: Path, folder: Path) -> str:
    """Prove the hook in a guest whose shell has the functions of HANGS, and return the error."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "sh").write_text("#!/bin/bash\nexec bash\n", encoding="utf-8")
    (folder / "bin" / "sh").chmod(0o755)
    (folder / "functions").write_text(HANGS[name], encoding="utf-8")
    settings = f"SetEnv PATH={folder}/bin:/usr/bin:/bin BASH_ENV={folder}/functions"
    path = samples.write(name)
    with path.open("a", encoding="utf-8") as file:
        file.write("agentmon: {url: 'http://127.0.0.1:9'}\n")
    with Sshd(folder / "sshd", [keys.with_suffix(".pub").read_text()], settings=settings) as server:
        ssh.write_config(server.target(folder / "pins", keys, name=name))
        guest = Guest(ssh.part_path(name), name)
        with pytest.raises(CommandFailed) as caught:
            prove(guest, inventory.load(name), Talk(Screen(), name))
        guest.close()
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("dirs")
def test_a_hung_command_holds_nobody_up(keys: Path, tmp_path: Path) -> None:
    """A command that only looks, or reads the clock, and hangs ends the proof long before a command's usual limit."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: message(name, keys, tmp_path / name), HANGS))
    assert [text.splitlines()[0] for text in found] == [f"{name}: timed out after 30 s" for name in HANGS]
