"""The loop of every changing verb: what it calls, in which order, and what it returns or raises."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from swarm.console import Screen, Talk
from swarm.errors import Refused, VerificationFailed
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile, show

ONE, TWO = Change("create", "one"), Change("update", "two", "a", "b")


@dataclass
class World:
    """Things to do, of which applying a plan does some. It records what is called."""

    todo: list[Change]
    stuck: tuple[Change, ...] = ()
    known: bool = False
    """Whether apply() says what is left."""
    calls: list[str] = field(default_factory=list)

    def observe(self) -> tuple[Change, ...]:
        """Return what is left to do."""
        self.calls.append("observe")
        return tuple(self.todo)

    def difference(self, observed: tuple[Change, ...]) -> Plan:
        """Return it as a plan."""
        self.calls.append("difference")
        return Plan("zap", observed)

    def apply(self, plan: Plan, observed: tuple[Change, ...]) -> Applied[tuple[Change, ...]]:
        """Do all but what is stuck."""
        assert plan.changes == observed
        self.calls.append("apply")
        self.todo = list(self.stuck)
        return Applied(Plan("zap", plan.changes[:1]), self.stuck if self.known else None)

    def run(self, *, plan_only: bool = False) -> Plan:
        """Reconcile this world."""
        return reconcile(self.observe, self.difference, self.apply, Talk(Screen()), plan_only=plan_only)


def test_changes_are_made_and_checked() -> None:
    """A changing run observes, applies, observes again, and returns what was really changed."""
    world = World([ONE, TWO])
    assert world.run().changes == (ONE,)
    assert world.calls == ["observe", "difference", "apply", "observe", "difference"]


def test_a_known_state_is_not_observed_again() -> None:
    """If applying says what the state is now, nothing is observed a second time."""
    world = World([ONE], known=True)
    world.run()
    assert world.calls == ["observe", "difference", "apply", "difference"]


@pytest.mark.parametrize("known", [False, True])
def test_what_is_left_is_an_error(known: bool) -> None:  # noqa: FBT001 - a column of the table
    """Changes that are left at the end are an error that lists them."""
    world = World([ONE, TWO], stuck=(ONE, TWO), known=known)
    with pytest.raises(VerificationFailed) as caught:
        world.run()
    assert caught.value.message == "zap: changes are left after all steps ran: + one; ~ two: a → b"
    assert caught.value.hint == "run the same command again; if that does not help, report a bug in swarm"


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a difference, nothing is applied, and the run says so."""
    world = World([])
    assert world.run().changes == ()
    assert world.calls == ["observe", "difference"]
    assert capsys.readouterr().err == "nothing to do\n"


def test_plan_only(capsys: pytest.CaptureFixture[str]) -> None:
    """With plan_only the plan is shown and returned, and nothing is applied."""
    world = World([ONE, TWO])
    assert world.run(plan_only=True).changes == (ONE, TWO)
    assert world.calls == ["observe", "difference"]
    assert capsys.readouterr().err == "+ one\n~ two: a → b\n"


def test_the_plan_is_shown_before_anything_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """A changing run shows its whole plan first."""
    shown = []

    class Watched(World):
        """Notes what is on the screen when the changes begin."""

        def apply(self, plan: Plan, observed: tuple[Change, ...]) -> Applied[tuple[Change, ...]]:
            """Do it."""
            shown.append(capsys.readouterr().err)
            return super().apply(plan, observed)

    Watched([ONE, TWO]).run()
    assert shown == ["+ one\n~ two: a → b\n"]


def test_confirmation(capsys: pytest.CaptureFixture[str]) -> None:
    """The confirmation sees the plan after it is shown. If it refuses, nothing is applied."""

    def confirm(plan: Plan) -> None:
        assert plan.changes == (ONE,)
        assert capsys.readouterr().err == "+ one\n"
        raise Refused("no")

    world = World([ONE])
    with pytest.raises(Refused, match="no"):
        reconcile(world.observe, world.difference, world.apply, Talk(Screen()), confirm=confirm)
    assert world.calls == ["observe", "difference"]
    reconcile(world.observe, world.difference, world.apply, Talk(Screen()), plan_only=True, confirm=confirm)


def test_a_diff_is_shown_below_its_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of a diff follows its change, indented, and square brackets in it are plain text."""
    change = Change("update", "file", detail="@@ -1 +1 @@\n-[red]old\n+new\n same")
    show(Plan("zap", (change, ONE)), Talk(Screen(), "zap"))
    assert capsys.readouterr().err.splitlines() == [
        "zap ~ file",
        "zap     @@ -1 +1 @@",
        "zap     -[red]old",
        "zap     +new",
        "zap      same",
        "zap + one",
    ]


def test_a_diff_is_colored(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, removed lines are red, added lines green, positions cyan, and all others plain."""
    screen, lines = Screen(), list[str]()
    monkeypatch.setattr(screen, "line", lines.append)
    show(Plan("zap", (Change("update", "file", detail="@@\n-a\n+b\n c"),)), Talk(screen))
    assert lines == ["~ file", "    [cyan]@@[/]", "    [red]-a[/]", "    [green]+b[/]", "     c"]
