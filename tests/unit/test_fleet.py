"""Several hosts side by side: who runs, whose errors end what, and what is shown at the end."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from swarm import inventory
from swarm.commands.render import Done, render
from swarm.commands.run import Outcome, Selection, chosen, in_turn, run
from swarm.errors import InventoryError, Refused, UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from swarm.commands.run import Step
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
    """All hosts run at the same time, and the outcomes are in the hosts' order, whichever finishes first."""
    meeting = threading.Barrier(len(hosts), timeout=20)
    turns = {"cat": threading.Event(), "bee": threading.Event(), "ant": threading.Event()}

    def verb(host: Host, _: Talk) -> str:
        meeting.wait()  # breaks unless all three are here at once
        before = {"ant": "bee", "bee": "cat"}.get(host.name)
        if before:
            assert turns[before].wait(20)
        turns[host.name].set()
        return host.name.upper()

    assert [outcome.result for outcome in run(Selection(hosts), verb)] == ["ANT", "BEE", "CAT"]


def test_one_failure_stops_that_host_alone(hosts: list[Host], capsys: pytest.CaptureFixture[str]) -> None:
    """A failing host is shown with its name and hint, the others have results, and the worst exit code counts."""

    def verb(host: Host, _: Talk) -> Done:
        if host.name == "bee":
            raise Refused("no honey", "plant flowers")
        return Done(changed=True, verb="fed")

    outcomes = run(Selection(hosts), verb)
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert outcomes[1].to_json()["error"] == {"message": "no honey", "hint": "plant flowers"}
    assert "bee error: no honey\nbee   hint: plant flowers" in capsys.readouterr().err
    assert render(outcomes, as_json=False) == 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no such mode"), "internal error: ValueError: no such mode"),
        (RecursionError("too deep"), "internal error: RecursionError: too deep"),
        (MemoryError(), "internal error: MemoryError"),
        (
            FileNotFoundError(2, "No such file or directory", "/no/file"),
            "No such file or directory: /no/file",
        ),
    ],
)
def test_any_exception_is_that_host_s_error(
    hosts: list[Host], capsys: pytest.CaptureFixture[str], count: int, error: Exception, sentence: str
) -> None:
    """A defect that one guest triggers is one sentence about that host; the other hosts finish."""

    def verb(host: Host, _: Talk) -> str:
        if host.name == "ant":
            raise error
        return "done"

    outcomes = run(Selection(hosts[:count]), verb)
    assert [outcome.result for outcome in outcomes] == [None, "done", "done"][:count]
    assert outcomes[0].error
    assert outcomes[0].error.message == sentence
    prefix = "ant " if count > 1 else ""
    shown = capsys.readouterr().err
    assert shown.startswith(f"{prefix}error: {sentence}\n")
    assert "Traceback" not in shown


def test_debug_shows_the_traceback_of_a_defect(
    hosts: list[Host], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SWARM_DEBUG=1, an internal error comes with its traceback, and is still that host's alone."""
    monkeypatch.setenv("SWARM_DEBUG", "1")
    outcomes = run(Selection(hosts), lambda host, _: 1 // (host.name != "bee"))
    assert [outcome.result for outcome in outcomes] == [1, None, 1]
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("count", [1, 3])
def test_a_request_to_stop_ends_the_whole_run(
    hosts: list[Host], stop: type[BaseException], count: int
) -> None:
    """Ctrl-C is no host's error."""

    def verb(_host: Host, _talk: Talk) -> None:
        raise stop

    with pytest.raises(stop):
        run(Selection(hosts[:count]), verb)


def test_a_failed_host_is_left_out_of_later_steps(
    hosts: list[Host], capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `up`: hosts without an error go on, each line still names its host, and the worst exit code counts."""
    ran: list[str] = []

    def step(name: str, fails: dict[str, Exception]) -> Step:
        def verb(host: Host, talk: Talk) -> Done:
            if host.name in fails:
                raise fails[host.name]
            talk.say(name)
            return Done(changed=True, verb=name)

        def start(selection: Selection) -> list[Outcome[Done]]:
            ran.append(f"{name}: {' '.join(host.name for host in selection.hosts)}")
            return run(selection, verb)

        return start, lambda outcomes: render(outcomes, as_json=False)

    steps = [
        step("one", {"ant": ValueError("odd")}),
        step("two", {"bee": Refused("no honey")}),
        step("three", {}),
    ]
    assert in_turn(Selection(hosts), steps) == 1
    assert ran == ["one: ant bee cat", "two: bee cat", "three: cat"]
    assert capsys.readouterr().err.splitlines()[-1] == "cat three"
    assert in_turn(Selection(hosts[:1]), steps) == 1
    assert ran[3:] == ["one: ant"]


def test_first_runs_for_all_hosts_before_any_verb(
    hosts: list[Host], capsys: pytest.CaptureFixture[str]
) -> None:
    """`first` is called for all hosts before any verb. A host where it fails gets no verb, but its error."""
    done: list[str] = []

    def first(host: Host) -> None:
        done.append(f"first {host.name}")
        if host.name == "bee":
            raise Refused("no honey")

    outcomes = run(Selection(hosts), lambda host, _: done.append(host.name), first=first)
    assert done[:3] == ["first ant", "first bee", "first cat"]
    assert sorted(done[3:]) == ["ant", "cat"]
    assert [outcome.error and outcome.error.message for outcome in outcomes] == [None, "no honey", None]
    assert "bee error: no honey" in capsys.readouterr().err


@dataclass(frozen=True)
class Found:
    """A result with an exit code of its own."""

    changed: bool
    summary: str
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {"found": self.summary}


def test_a_table_is_for_several_hosts(hosts: list[Host], capsys: pytest.CaptureFixture[str]) -> None:
    """Several hosts end with a table of one line each; one host needs none."""
    render([Outcome("ant", Done(changed=True, verb="fed"), None, 1)], as_json=False)
    assert capsys.readouterr().out == ""
    render(
        [
            Outcome("ant", Done(changed=True, verb="fed"), None, 1, hosts[0]),
            Outcome("bee", Done(changed=False, verb="fed"), None, 1, hosts[1]),
            Outcome("cat", None, Refused("no mice\nat all"), 1, hosts[2]),
        ],
        as_json=False,
    )
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[word.strip() for word in line if word.strip()] for line in lines] == [
        ["host", "result", "time"],
        ["ant", "fed", "1.0 s"],
        ["bee", "nothing to do", "1.0 s"],
        ["cat", "failed: no mice", "1.0 s"],
    ]


@dataclass(frozen=True)
class Detailed(Found):
    """A result that people see in full."""

    def lines(self) -> list[str]:
        """Return markup."""
        return [f"[bold]{self.summary}[/]", "  in full"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_result_with_lines_is_shown_in_full(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines are data, and its summary is talk that names the host. There is no table of summaries."""
    outcomes = [
        Outcome("ant", Detailed(changed=False, summary="two", exit_code=1), None, 1.5),
        Outcome("bee", None, Refused("no honey"), 2),
    ]
    assert render(outcomes[:count], as_json=False) == 1
    assert capsys.readouterr() == ("two\n  in full\n", "ant two\n")


def test_a_script_gets_each_result_and_each_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, each host has its result's data, its name, its time, whether it changed, and its error."""
    outcomes = [
        Outcome("ant", Found(changed=True, summary="two", exit_code=3), None, 1.5),
        Outcome("bee", None, Refused("no honey"), 2),
    ]
    assert render(outcomes, as_json=True) == 3
    assert json.loads(capsys.readouterr().out) == [
        {"host": "ant", "found": "two", "seconds": 1.5, "error": None, "changed": True},
        {"host": "bee", "seconds": 2, "error": {"message": "no honey", "hint": None}, "changed": False},
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("ant", ["ant"]),
        ("cat,ant", ["cat", "ant"]),
        ("ant, ant", ["ant"]),
        ("all", ["ant", "bee", "cat"]),
        ("?a*", ["cat"]),
        ("*", ["ant", "bee", "cat"]),
        ("[b-c]*,ant,bee", ["bee", "cat", "ant"]),
        ("@home", ["ant", "cat"]),
        ("@wings,@home", ["bee", "ant", "cat"]),
        ("bee,all", ["bee", "ant", "cat"]),
    ],
)
def test_hosts_are_chosen(hosts: list[Host], dirs: Dirs, words: str, names: list[str]) -> None:
    """--host takes names, patterns, @groups and all, separated by commas; each host counts once."""
    assert hosts
    for name, groups in (("ant", "[home]"), ("bee", "[wings]"), ("cat", "[home, test]")):
        with (dirs.hosts / f"{name}.yaml").open("a", encoding="utf-8") as file:
            file.write(f"groups: {groups}\n")
    assert [host.name for host in chosen(words).hosts] == names


@pytest.mark.parametrize("words", ["", ",", " , "])
@pytest.mark.usefixtures("hosts")
def test_no_name_is_no_choice(words: str) -> None:
    """An empty --host is rejected with the names that exist."""
    with pytest.raises(UsageError) as caught:
        chosen(words)
    assert (caught.value.hint or "").startswith("known hosts: ant, bee, cat; give names, patterns")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("@nobody", "no host is in the group @nobody", "a host file names its groups: groups: [home]"),
        ("z*", "no host has a name like 'z*'", "known hosts: ant, bee, cat"),
        ("all,zed", "there is no host 'zed'", "known hosts"),
    ],
)
@pytest.mark.usefixtures("hosts")
def test_a_choice_of_nothing_is_an_error(words: str, message: str, hint: str) -> None:
    """A group without hosts, a pattern that fits none, and an unknown name stop the command before it begins."""
    with pytest.raises((UsageError, InventoryError)) as caught:
        chosen(words)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["vm: [", "groups: home\n", "", "- 1\n", "groups: [home]\n"])
def test_a_broken_host_file_may_be_in_the_group(hosts: list[Host], dirs: Dirs, text: str) -> None:
    """A file whose groups are not known may be in each, so it fails there; a pattern reaches it by its name only."""
    assert hosts
    in_group(dirs, "ant", "[home]")
    (dirs.hosts / "broken.yaml").write_text(text, encoding="utf-8")
    home = chosen("@home")
    assert (set(home.broken), [host.name for host in home.hosts]) == ({"broken"}, ["ant"])
    assert not chosen("a*").broken
    assert set(chosen("b*").broken) == {"broken"}


def in_group(dirs: Dirs, name: str, groups: str, more: str = "") -> None:
    """Append groups, and other lines, to a host file."""
    with (dirs.hosts / f"{name}.yaml").open("a", encoding="utf-8") as file:
        file.write(f"groups: {groups}\n{more}")


def test_only_the_files_of_a_group_matter_to_it(hosts: list[Host], dirs: Dirs) -> None:
    """Invalid or clashing files outside a group are not its errors. A member that clashes is, and names the other."""
    assert hosts
    in_group(dirs, "ant", "[home]")
    in_group(dirs, "bee", "[wings]")
    in_group(dirs, "cat", "[paws]", "color: black\n")
    clash = (dirs.hosts / "bee.yaml").read_text(encoding="utf-8").replace("[wings]", "[]")
    (dirs.hosts / "bug.yaml").write_text(clash, encoding="utf-8")
    home, wings, paws = (chosen(f"@{group}") for group in ("home", "wings", "paws"))
    assert ([host.name for host in home.hosts], set(home.broken)) == (["ant"], set())
    assert (wings.hosts, set(wings.broken)) == ([], {"bee"})
    assert "bug.yaml" in wings.broken["bee"].message
    assert (paws.hosts, set(paws.broken)) == ([], {"cat"})
    assert set(chosen("@home,@paws").broken) == {"cat"}
    assert set(chosen("all").broken) == {"bee", "bug", "cat"}


def test_a_broken_host_file_excludes_only_its_host(
    hosts: list[Host], dirs: Dirs, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `all`, hosts whose files are broken, misnamed or clash are failures; the others run."""
    (dirs.hosts / "broken.yaml").write_text("vm: [", encoding="utf-8")
    (dirs.hosts / "Odd Name.yaml").write_text("{}", encoding="utf-8")
    text = (dirs.hosts / "cat.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "cot.yaml").write_text(text, encoding="utf-8")
    outcomes = run(chosen("all"), lambda host, _: host.name)
    assert [outcome.name for outcome in outcomes if outcome.error is None] == ["ant", "bee"]
    failed = {outcome.name for outcome in outcomes if isinstance(outcome.error, InventoryError)}
    assert failed == {"broken", "Odd Name", "cat", "cot"}
    assert "broken error: " in capsys.readouterr().err
    assert hosts


def test_a_broken_host_file_that_is_named_is_an_error(hosts: list[Host], dirs: Dirs) -> None:
    """A name that is given explicitly and can't be used stops the command before it begins."""
    (dirs.hosts / "broken.yaml").write_text("vm: [", encoding="utf-8")
    with pytest.raises(InventoryError):
        chosen(f"{hosts[0].name},broken")
