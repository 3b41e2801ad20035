"""The engine's conversation: given these facts, exactly these changes, in this order, and this error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import CommandFailed, Refused, VerificationFailed
from swarm.guest.engine.converge import converge, observe
from swarm.guest.engine.step import Step
from swarm.ssh.reasons import ConnectionLost
from tests.model_guest import ModelGuest

if TYPE_CHECKING:
    from swarm.plan import Plan


def step(
    name: str,
    script: str = "",
    *,
    after: tuple[str, ...] = (),
    reacts_to: tuple[str, ...] = (),
    secrets: tuple[str, ...] = (),
) -> Step:
    """A step that wants the fact 'good', refuses 'never', and gets there by `script`, or by setting it."""
    return Step(
        subject=name,
        probe=f"get {name}",
        wanted="good",
        apply=lambda fact: None if fact == "good" else script or f"set {name} good",
        after=after,
        reacts_to=reacts_to,
        refuse=lambda fact: f"{name} cannot be" if fact == "never" else None,
        shown=lambda fact: fact or None,
        secrets=secrets,
    )


def run(
    guest: ModelGuest, steps: list[Step], *, plan_only: bool = False, deadline: Deadline | None = None
) -> Plan:
    """Converge a guest."""
    return converge(guest, steps, Talk(Screen()), plan_only=plan_only, deadline=deadline)


def subjects(plan: Plan) -> list[str]:
    """What a plan is about."""
    return [change.subject for change in plan]


CHAIN = [step("d"), step("c", after=("b",)), step("b", reacts_to=("a",)), step("a")]


@pytest.mark.parametrize(
    ("facts", "changed", "asked"),
    [
        ("good good good good", [], []),
        # Only what is due runs, and only what waits for it is probed again.
        ("bad good good good", ["a"], [["a", "b", "c"]]),
        ("good bad good good", ["b"], [["b", "c"]]),
        ("good good bad good", ["c"], [["c"]]),
        ("good good good bad", ["d"], [["d"]]),
        ("bad good bad bad", ["d", "a", "c"], [["d", "a", "b", "c"], ["c"]]),
        ("bad bad bad bad", ["d", "a", "b", "c"], [["d", "a", "b", "c"], ["b", "c"], ["c"]]),
    ],
)
def test_levels(facts: str, changed: list[str], asked: list[list[str]]) -> None:
    """Each level is one script: its changes, and the probes of its steps and of those that wait for one of them."""
    guest = ModelGuest(dict(zip("abcd", facts.split(), strict=True)))
    assert subjects(run(guest, CHAIN)) == changed
    assert guest.asked == [["d", "c", "b", "a"], *asked]
    assert all("trap" in script for script in guest.sent[1:])
    assert guest.state == dict.fromkeys("abcd", "good")
    assert not run(guest, CHAIN)


def test_reaction() -> None:
    """A step acts on what is true at its turn: on what an earlier step has done to it, too."""
    guest = ModelGuest({"a": "bad", "b": "good", "c": "bad"})
    steps = [
        step("a", "set a good\nset b stale\nset c good"),
        step("b", reacts_to=("a",)),
        step("c", after=("a",)),
    ]
    plan = run(guest, steps)
    assert [(change.subject, change.before, change.certain) for change in plan] == [
        ("a", "bad", True),
        ("b", "stale", True),
    ]
    assert plan.host == "zap"


def test_plan_only() -> None:
    """A plan needs one conversation and changes nothing."""
    guest = ModelGuest({"a": "bad", "b": "good", "c": "good", "d": "bad"})
    plan = run(guest, CHAIN, plan_only=True)
    assert [(change.subject, change.certain) for change in plan] == [("d", True), ("a", True), ("b", False)]
    assert len(guest.sent) == 1
    assert "swarm_run" not in guest.sent[0]
    assert guest.state["a"] == "bad"


def test_the_plan_is_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole plan is on the screen before anything is changed; then each step as it ends."""
    shown: list[str] = []
    guest = ModelGuest({"a": "bad", "b": "bad"}, before=lambda: shown.append(capsys.readouterr().err))
    run(guest, [step("a"), step("b", after=("a",))])
    assert shown[0] == "~ a: bad → good\n~ b: bad → good (maybe)\n"
    assert shown[1].startswith("✓ a ")
    assert capsys.readouterr().err.startswith("✓ b ")


def test_refused_before_anything() -> None:
    """If a step refuses, nothing is changed."""
    guest = ModelGuest({"a": "bad", "b": "never"})
    with pytest.raises(Refused, match=r"^b cannot be\n  hint: nothing was changed$"):
        run(guest, [step("a"), step("b")])
    assert len(guest.sent) == 1


def test_refused_on_the_way() -> None:
    """If a later step refuses after a change, the run ends before that step and says that the change stays."""
    guest = ModelGuest({"a": "bad", "b": "bad"})
    with pytest.raises(Refused, match=r"^b cannot be\n  hint: earlier changes are kept"):
        run(guest, [step("a", "set a good\nset b never"), step("b", after=("a",))])
    assert len(guest.sent) == 2


def test_stated_twice() -> None:
    """The same thing stated twice is refused before the guest is asked."""
    guest = ModelGuest({})
    with pytest.raises(Refused, match="a is stated twice"):
        run(guest, [step("a"), step("a")])
    assert guest.sent == []


@pytest.mark.parametrize(("fact", "found"), [("bad", "bad"), ("s3", "••••"), ("", "nothing")])
def test_no_effect(fact: str, found: str) -> None:
    """A change that runs without an error but changes nothing is an error, and the next level does not begin."""
    guest = ModelGuest({"a": "bad", "b": "bad", "c": "bad"})
    steps = [step("b"), step("a", f"set a {fact}", secrets=("s3",)), step("c", after=("a",))]
    with pytest.raises(VerificationFailed) as caught:
        run(guest, steps)
    message = "zap: a: the change ran without an error but had no effect: wanted good, found"
    assert caught.value.message == f"{message} {found}"
    assert guest.state["b"] == "good"
    assert guest.state["c"] == "bad"


def test_a_step_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A failing step ends the run, is named, and shows its output without secrets. What was done stays."""
    guest = ModelGuest({"a": "bad", "b": "bad", "c": "bad", "d": "bad"})
    steps = [
        step("a"),
        step("b", "say it is s3\nfail 3"),
        step("c"),
        step("d", after=("a",), secrets=("s3",)),
    ]
    with pytest.raises(CommandFailed, match=r"^zap: b failed:\n    it is ••••\n  hint: "):
        run(guest, steps)
    assert guest.state == {"a": "good", "b": "bad", "c": "bad", "d": "bad"}
    assert "✓ a" in capsys.readouterr().err
    again = [step("a"), step("b"), *steps[2:]]
    assert subjects(run(guest, again)) == ["b", "c", "d"]


@pytest.mark.parametrize(("script", "during"), [("lose", "a"), ("", "the start of the work")])
def test_a_lost_connection(script: str, during: str) -> None:
    """A connection that breaks names the step that was running, and keeps the hint."""
    lost = ConnectionLost("zap: lost", "run it again")

    def lose() -> None:
        if not script:
            raise lost

    guest = ModelGuest({"a": "bad"}, before=lose, lost=lost)
    with pytest.raises(ConnectionLost) as caught:
        run(guest, [step("a", script)])
    assert caught.value.message == f"zap: the connection broke during {during}"
    assert caught.value.hint == "run it again"


def test_limits() -> None:
    """Observing may take the wait for an earlier run and five minutes, a level two hours; a deadline shortens both."""
    guest = ModelGuest({"a": "bad"})
    run(guest, [step("a")])
    assert [limits.total for limits in guest.limits] == [1200, 7200]
    assert {(limits.silence, limits.output) for limits in guest.limits} == {(120, 64 << 20)}
    guest = ModelGuest({"a": "bad"})
    run(guest, [step("a")], deadline=Deadline(50))
    assert all(40 < limits.total <= 50 for limits in guest.limits)
    guest = ModelGuest({"a": "bad"})
    run(guest, [step("a")], deadline=Deadline(5000))
    assert [limits.total > 1200 for limits in guest.limits] == [False, True]


def test_asked_already() -> None:
    """A guest that was asked already is not asked again."""
    guest = ModelGuest({"a": "bad"})
    steps = [step("a")]
    answer = observe(guest, steps)
    assert subjects(converge(guest, steps, Talk(Screen()), asked=answer)) == ["a"]
    assert len(guest.sent) == 2


def test_an_unreadable_answer() -> None:
    """A fact that a step cannot read is an error of that guest, before anything is changed."""

    def odd(fact: str) -> str | None:
        return None if int(fact) else ""

    guest = ModelGuest({"a": "9" * 5000})
    with pytest.raises(CommandFailed, match=r"^zap: a: cannot read the guest's answer: ValueError"):
        run(guest, [Step(subject="a", probe="get a", wanted="1", apply=odd)])
    guest = ModelGuest({"a": "0"})
    with pytest.raises(VerificationFailed):  # an empty script runs as one that does nothing
        run(guest, [Step(subject="a", probe="get a", wanted="1", apply=odd)])


def test_secrets_are_masked_in_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """What a plan and its changes show has no secret of any step."""
    guest = ModelGuest({"a": "s3", "b": "good"})
    plan = run(guest, [step("a"), step("b", secrets=("s3",))])
    assert plan.changes[0].before == "••••"
    assert "s3" not in capsys.readouterr().err
