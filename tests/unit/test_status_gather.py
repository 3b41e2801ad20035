"""What status says of a machine without asking a hypervisor."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from swarm import inventory, ssh
from swarm.backup import record
from swarm.embedded import Embedded
from swarm.errors import HypervisorError
from swarm.fleet import gather
from swarm.fleet.gather import Gatherer, archives
from swarm.fleet.status import Status
from swarm.paths import ROOT
from tests import samples

if TYPE_CHECKING:
    from tests.conftest import Dirs


def look(name: str) -> Status:
    """Look at a host."""
    with Gatherer() as gatherer:
        return gatherer.look(inventory.load(name), 0.0)


def test_what_was_destroyed_is_not_called_stopped(dirs: Dirs) -> None:
    """With the embedded hypervisor at rest, a VM whose key is pinned is stopped, and one that is gone is none."""
    (dirs.hosts / "demo.yaml").write_text((ROOT / "hosts/demo.yaml").read_text("utf-8"), encoding="utf-8")
    assert look("demo").vm == "none"
    (Embedded().state / "lib").mkdir(parents=True)
    assert look("demo").vm == "none"
    ssh.pin(dirs.hosts / "demo.known_hosts", ["demo"], ssh.keypair("x")[1])
    assert look("demo").vm == "stopped"


def test_a_machine_that_swarm_did_not_make_is_asked_over_ssh(dirs: Dirs) -> None:
    """Such a machine has no state of a VM; without a pinned key it is not asked at all."""
    text = "hypervisor: {uri: none}\nmachine: {address: 203.0.113.7, hostname: claw}\n"
    (dirs.hosts / "claw.yaml").write_text(text, encoding="utf-8")
    found = look("claw")
    assert (found.vm, found.ip, found.ssh, found.up) == ("foreign", "203.0.113.7", "no pinned key", False)


@pytest.mark.usefixtures("dirs")
def test_a_hypervisor_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is looked at later, as of more hosts than are looked at at once, does not wait again."""
    monkeypatch.setattr(gather, "ANSWER", 0.5)
    monkeypatch.setattr(gather, "_open", lambda *_: None)
    host, start = samples.host(), time.monotonic()
    with Gatherer() as gatherer:
        for _ in range(8):
            with pytest.raises(HypervisorError, match="no answer for 0 s"):
                gatherer.look(host, 0.0)
    assert 0.5 <= time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("vm", "word", "up"),
    [
        ("running", "no answer", True),
        ("foreign", "ok", True),
        ("foreign", "no answer", False),
        ("stopped", "", False),
    ],
)
def test_a_host_is_up(vm: str, word: str, *, up: bool) -> None:
    """A VM is up if it runs, a machine that swarm did not make if it answers."""
    assert Status("zap", vm=vm, ssh=word).up is up


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize(
    "values",
    [
        {"archives": {"a": None}},
        {"archives": {"a": {"verified": None}}},
        {"archives": {"a": {"verified": {"file:///a": [1]}}}},
        {"drill": {"result": "success", "ended": None}},
        {"drill": {"result": "success", "ended": {"a": 1}}},
        {"drill": {"result": ["success"], "ended": 1}},
        {"drill": {"result": "success", "ended": float("inf")}},
        {"owners": {"others": ["a"]}},
        {"owners": {"others": {"a": ["root"]}}},
        {"owners": {"modes": {"a": "000"}}},
        {"result": ["failure"]},
        {"succeeded": 1e300},
        {"ended": float("nan")},
    ],
)
def test_a_record_that_is_damaged_inside_is_named(values: dict[str, object]) -> None:
    """A value of a wrong kind deep in the record becomes a word with ✗ that names the file and the field."""
    good = {
        "ended": 2.0,
        "succeeded": 2.0,
        "result": "success",
        "archive": "a",
        "archives": {"a": {"verified": {}}},
        "owners": {"user": "a", "group": "a", "others": {"b": ["root", "root"]}, "modes": {"b": 0}},
    }
    file = record.folder("zap") / "record.json"
    file.write_text(json.dumps(good), encoding="utf-8")
    assert archives("zap", 100.0).summary == "ok, 98 s ago"
    file.write_text(json.dumps(good | values), encoding="utf-8")
    assert archives("zap", 100.0).summary == f"✗ {file} is damaged ({next(iter(values))})"
