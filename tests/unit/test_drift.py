"""`inv plan`: what its parts find, how the outcome reads, and what its exit code says."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.commands import drift
from swarm.commands.drift import Drift
from swarm.errors import Refused, UsageError
from swarm.paths import ROOT
from swarm.plan import Change, Plan

if TYPE_CHECKING:
    from tests.conftest import Dirs

CHANGE = Change("update", "swappiness", "60", "10")


def found(**plans: int) -> Drift:
    """A drift with so many changes in each part."""
    made = {part: Plan("zap", (CHANGE,) * count) for part, count in plans.items()}
    return Drift("zap", made)


@pytest.mark.parametrize(
    ("seen", "summary", "code"),
    [
        (Drift("zap"), "nothing to do", 0),
        (found(vm=0, guest=0), "nothing to do", 0),
        (found(guest=1), "1 change: guest 1", 0),
        (found(vm=2, guest=0, agentmon=1), "3 changes: VM 2, agentmon 1", 0),
        (Drift("zap", errors={"guest": Refused("no")}), "not examined: guest", 1),
        (Drift("zap", {"vm": Plan("zap", (CHANGE,))}, errors={"guest": Refused("no")}),
         "1 change: VM 1; not examined: guest", 1),
    ],
)  # fmt: skip
def test_a_drift_says_how_much_differs(seen: Drift, summary: str, code: int) -> None:
    """The summary counts the changes of each part, and names what could not be examined, which is exit code 1."""
    assert (seen.summary, seen.exit_code) == (summary, code)


def test_json_names_the_part_of_each_change() -> None:
    """Each change has its part; what could not be examined has its reason and hint."""
    seen = found(vm=1, backup=1)
    seen.errors["guest"] = Refused("the login is refused", "add the key")
    data = seen.to_json()
    assert [change["part"] for change in data["changes"]] == ["vm", "backup"]
    assert data["not_examined"] == {"guest": {"message": "the login is refused", "hint": "add the key"}}


def demo(dirs: Dirs) -> None:
    """Write demo's host file."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "demo.yaml").write_text(text, encoding="utf-8")


def test_a_stale_backup_is_drift(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup that is too old or failed is shown with the command to type; a fresh one, and none at all, are not."""
    demo(dirs)
    assert drift.plan("demo", only="backup", as_json=False) == 0
    fresh = record.Record(result="success", ended=time.time(), succeeded=time.time())
    record.save("demo", fresh)
    assert drift.plan("demo", only="backup", as_json=False) == 0
    record.save("demo", record.Record(result="success", ended=1.0, succeeded=time.time() - 3 * 86400))
    capsys.readouterr()
    assert drift.plan("demo", only="backup", as_json=False) == 2
    assert "▸ backup: last one 3 d ago → ./inv backup --host demo" in capsys.readouterr().err


def test_a_failed_drill_is_drift(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """A drill that failed has the command that repeats the drill: another backup would not end this drift."""
    demo(dirs)
    now = time.time()
    failed = {"result": "failure", "ended": now - 10800}
    record.save("demo", record.Record(result="success", ended=now, succeeded=now, drill=failed))
    assert drift.plan("demo", only="backup", as_json=False) == 2
    said = capsys.readouterr().err
    assert "▸ drill: failed 3 h ago → ./inv drill --host demo" in said
    assert "./inv backup" not in said


def test_one_part_does_not_hide_the_others(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that can't be examined is an error of its own, and the next part is examined all the same."""
    demo(dirs)
    (dirs.state / "backup" / "demo").mkdir(parents=True)
    (dirs.state / "backup" / "demo" / "record.json").write_text("damaged")
    assert drift.plan("demo", only="backup,timers", as_json=True) == 1
    [data] = json.loads(capsys.readouterr().out)
    assert "backup" in data["not_examined"]
    assert "timers" not in data["not_examined"]


def test_a_guest_that_never_ran_is_not_an_error(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a pinned key there is no guest yet, which the plan says in one line."""
    demo(dirs)
    assert drift.plan("demo", only="guest", as_json=False) == 0
    assert "the guest is not examined, because it does not run yet" in capsys.readouterr().err


def test_an_unknown_part_is_refused(dirs: Dirs) -> None:
    """--only takes known parts, and names them."""
    demo(dirs)
    with pytest.raises(UsageError) as caught:
        drift.plan("demo", only="vm,disk", as_json=False)
    assert caught.value.hint == "choose from: vm, guest, agentmon, timers, backup, litellm"
