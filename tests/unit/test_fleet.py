"""Several hosts side by side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.commands import run as fleet
from swarm.errors import Refused, UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.inventory import Host
    from tests.conftest import Dirs


@pytest.fixture
def hosts(dirs: Dirs) -> list[Host]:
    """Three hosts made after the demo's file."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(("ant", "bee", "cat")):
        own = text.replace("demo", name).replace("de:30", f"de:4{number}").replace("122.30", f"122.4{number}")
        (dirs.hosts / f"{name}.yaml").write_text(own, encoding="utf-8")
    return inventory.load_all()


def test_outcomes_come_in_the_order_of_the_hosts(hosts: list[Host]) -> None:
    """Whichever host is done first, the outcomes are in the order of the hosts, and all of them ran at the same time."""
    meeting = threading.Barrier(len(hosts), timeout=20)
    turns = {"cat": threading.Event(), "bee": threading.Event(), "ant": threading.Event()}

    def verb(host: Host, _: Talk) -> str:
        meeting.wait()  # breaks unless all three are here at once
        before = {"ant": "bee", "bee": "cat"}.get(host.name)
        if before:
            assert turns[before].wait(20)
        turns[host.name].set()
        return host.name.upper()

    assert [outcome.result for outcome in fleet.run(hosts, verb)] == ["ANT", "BEE", "CAT"]


def test_one_failure_stops_that_host_alone(hosts: list[Host], capsys: pytest.CaptureFixture[str]) -> None:
    """A host that fails is told with its name and hint, the others have their results, and the worst exit code counts."""

    def verb(host: Host, _: Talk) -> str:
        if host.name == "bee":
            raise Refused("no honey", "plant flowers")
        return "done"

    outcomes = fleet.run(hosts, verb)
    assert [outcome.result for outcome in outcomes] == ["done", None, "done"]
    assert fleet.worst(outcomes) == 1
    assert outcomes[1].to_json()["error"] == {"message": "no honey", "hint": "plant flowers"}
    assert "bee error: no honey\nbee   hint: plant flowers" in capsys.readouterr().err


def test_what_comes_first_is_done_for_all_before_any_verb(
    hosts: list[Host], capsys: pytest.CaptureFixture[str]
) -> None:
    """`first` is called in the hosts' order before the first verb, and a host where it fails gets no verb, but its error."""
    done: list[str] = []

    def first(host: Host) -> None:
        done.append(f"first {host.name}")
        if host.name == "bee":
            raise Refused("no honey")

    outcomes = fleet.run(hosts, lambda host, _: done.append(host.name), first=first)
    assert done[:3] == ["first ant", "first bee", "first cat"]
    assert sorted(done[3:]) == ["ant", "cat"]
    assert [outcome.error and outcome.error.message for outcome in outcomes] == [None, "no honey", None]
    assert "bee error: no honey" in capsys.readouterr().err


def test_a_defect_is_not_swallowed(hosts: list[Host]) -> None:
    """What is not a SwarmError is a defect of ours, and comes out of the thread as it is."""
    with pytest.raises(ZeroDivisionError):
        fleet.run(hosts, lambda _host, _talk: 1 // 0)


def test_a_summary_is_for_several_hosts(hosts: list[Host], capsys: pytest.CaptureFixture[str]) -> None:
    """Several hosts end with a table of one line each; one host needs none."""
    fleet.summary(fleet.run(hosts[:1], lambda host, _: host.name), str)
    assert capsys.readouterr().out == ""
    fleet.summary(fleet.run(hosts, lambda host, _: host.name * 2), str)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["host", "result"],
        ["ant", "antant"],
        ["bee", "beebee"],
        ["cat", "catcat"],
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [("ant", ["ant"]), ("cat,ant", ["cat", "ant"]), ("ant, ant", ["ant"]), ("all", ["ant", "bee", "cat"])],
)
@pytest.mark.usefixtures("hosts")
def test_hosts_are_chosen_by_name(words: str, names: list[str]) -> None:
    """--host takes one name, several with commas (each once), or all."""
    assert [host.name for host in fleet.chosen(words)] == names


@pytest.mark.usefixtures("hosts")
def test_no_name_is_no_choice() -> None:
    """An empty --host is refused with the names that there are."""
    with pytest.raises(UsageError) as caught:
        fleet.chosen("")
    assert caught.value.hint == "known hosts: ant, bee, cat"
