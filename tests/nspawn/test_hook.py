"""agentmon's hook in a real OpenClaw: deployed once, proved by events of both halves, and left alone afterwards."""

from __future__ import annotations

from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from swarm.agentmon.deploy import deploy, prove
from swarm.agentmon.receiver import Receiver
from swarm.inventory import AgentmonSettings
from swarm.ssh.forward import reverse
from tests import samples
from tests.nspawn.installed import SETTINGS, Installed
from tools.lab import Keeper

if TYPE_CHECKING:
    from swarm.agentmon.envelope import Event
    from swarm.console import Talk
    from tools.lab import World

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("dirs")
def test_the_hook_is_deployed_and_proved(world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run deploys, the second changes nothing, and what the proof saw also reaches the endpoint."""
    monkeypatch.setenv("HOOK_TEST_TOKEN", "kestrel-4711")
    machine = Installed(Keeper(lambda: world.machine(internet=True))).host(0)
    guest, over = machine.guest(), Flag()
    arrived: list[Event] = []
    guest.check("true", "the first command")
    with Receiver(token="kestrel-4711") as endpoint, reverse(guest.link, endpoint.port) as port:

        def read() -> None:
            while not over.is_set():
                with endpoint.take(0.2) as delivery:
                    arrived.extend(delivery.events if delivery else [])

        reader = Thread(target=read)
        reader.start()
        try:
            settings = AgentmonSettings(url=f"http://127.0.0.1:{port}", token_env="HOOK_TEST_TOKEN")
            host = samples.host().model_copy(update={"openclaw": SETTINGS, "agentmon": settings})
            assert deploy(guest, host, talk)
            names = {event.payload.get("name") for event in arrived}
            assert {"gateway.startup", "gateway.start"} <= names
            assert not deploy(guest, host, talk)
            assert machine.ssh("stat -c '%a %U' /home/openclaw/.openclaw/.env").split() == ["600", "openclaw"]
            report = prove(guest, host, talk)
            assert report.seen.complete
            assert not report.seen.refused
            assert not deploy(guest, host, talk)
        finally:
            over.set()
            reader.join()
            guest.close()
