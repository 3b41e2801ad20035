"""A hypervisor that is switched off: it accepts a connection, or nothing does, and never answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.errors import Unfit
from swarm.hypervisor.connection import Libvirt
from swarm.paths import ROOT
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs

NAMES = ("ant", "bee", "cow")
_LONGEST = 300  # seconds for a loaded machine; without a limit, libvirt waits for ever


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listener that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as made:
        made.settimeout(0)
        yield made


def uri_of(listener: socket.socket) -> str:
    """Return the listener as a hypervisor."""
    return f"qemu+ssh://127.0.0.1:{listener.getsockname()[1]}/system"


def connections(listener: socket.socket) -> int:
    """Return how many connections have been made, and end them."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_a_silent_hypervisor_is_waited_for_once(listener: socket.socket) -> None:
    """With a limit, connecting fails after it. The next attempt of the same process fails without another wait."""
    for _ in range(2):
        with pytest.raises(Unfit, match="failed: no answer for 1 s") as caught:
            Libvirt(uri_of(listener), limit=1)
        assert caught.value.hint == "is the hypervisor running?"
    assert connections(listener) == 1


@pytest.mark.slow
def test_commands_for_many_hosts_share_the_wait(listener: socket.socket, dirs: Dirs) -> None:
    """If the hypervisor of three hosts is silent, each command ends and says so. Only plan connects for each."""
    for number, name in enumerate(NAMES, 1):
        path = samples.write(
            name, domain=name, hostname=name, mac=f"52:54:00:00:00:{number:02x}", ip=f"192.168.122.{number + 1}",
            disk_path=f"/srv/{name}.qcow2", source="/srv/share",
        )  # fmt: skip
        text = path.read_text(encoding="utf-8").replace("qemu:///system", uri_of(listener))
        path.write_text(text, encoding="utf-8")
    inv = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py")]
    environment = {**os.environ, "SWARM_LITELLM": str(dirs.state / "litellm")}

    def started(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*inv, *words], stdout=pipe, stderr=pipe, text=True, env=environment)

    once = [started("status", "--json"), started("doctor"), started("images")]
    shown = ["".join(each.communicate(timeout=_LONGEST)) for each in once]
    # For each host of status: in --json, as its action, and on stderr.
    assert [each.count("no answer for 20 s") for each in shown] == [3 * 3, 1, 1], shown
    assert connections(listener) == 3 + 2  # status and doctor also ask the machine itself
    out, _ = started("plan", "--host", "all", "--json").communicate(timeout=_LONGEST)
    hosts = {each["host"]: json.dumps(each) for each in json.loads(out)}
    assert [name for name in NAMES if "no answer for 20 s" not in hosts[name]] == [], out
