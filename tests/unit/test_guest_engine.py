"""The engine's pure parts: the order of steps, differences, plans, and what people are shown."""

from __future__ import annotations

import pytest

from swarm.errors import CommandFailed, Refused
from swarm.guest.engine.difference import change, difference, plan, read, refuse, secrets_of, state
from swarm.guest.engine.graph import check_names, levels, waits_for, with_dependents
from swarm.guest.engine.shown import brief, mask, unified
from swarm.guest.engine.step import Step
from swarm.plan import Change


def step(
    name: str, *, after: tuple[str, ...] = (), reacts_to: tuple[str, ...] = (), secrets: tuple[str, ...] = ()
) -> Step:
    """A step that is content with the fact 'good'."""
    return Step(
        subject=name,
        probe="echo bad",
        wanted="good",
        apply=lambda fact: None if fact == "good" else "work",
        after=after,
        reacts_to=reacts_to,
        shown=lambda fact: fact,
        secrets=secrets,
    )


def names(steps: list[Step]) -> list[str]:
    """The subjects of steps."""
    return [step.subject for step in steps]


DIAMOND = [
    step("d", after=("b", "c")),
    step("b", after=("a",)),
    step("c", reacts_to=("a",)),
    step("a"),
    step("e"),
]


def test_levels() -> None:
    """A step is in the first level in which all that it waits for is done; within a level, the given order stays."""
    assert [names(level) for level in levels(DIAMOND)] == [["a", "e"], ["b", "c"], ["d"]]
    assert [names(level) for level in levels(DIAMOND[:3])] == [["b", "c"], ["d"]]  # a is not among them
    assert levels([]) == []
    assert waits_for(step("x", after=("a", "b"), reacts_to=("b", "c"))) == {"a", "b", "c"}


def test_circle() -> None:
    """Steps that wait for each other are a bug that is named."""
    with pytest.raises(AssertionError, match=r"these steps wait for each other: \['a', 'b'\]"):
        levels([step("a", after=("b",)), step("b", reacts_to=("a",)), step("c")])


@pytest.mark.parametrize(
    ("subjects", "found"),
    [
        ({"a"}, ["d", "b", "c", "a"]),
        ({"c"}, ["d", "c"]),
        ({"d", "e"}, ["d", "e"]),
        ((), []),
    ],
)
def test_dependents(subjects: set[str], found: list[str]) -> None:
    """With a step come all that wait for it, directly or not, in the given order."""
    assert names(with_dependents(DIAMOND, subjects)) == found


def test_names() -> None:
    """A thing that is stated twice is refused. A step that waits for an unknown one is a bug."""
    check_names(DIAMOND)
    with pytest.raises(Refused, match=r"^a is stated twice\n  hint: state each thing once$"):
        check_names([step("a"), step("b"), step("a")])
    with pytest.raises(AssertionError, match=r"b waits for unknown steps: \['x', 'y'\]"):
        check_names([step("a"), step("b", after=("y", "a"), reacts_to=("x",))])


def test_difference() -> None:
    """The steps whose state is not as wanted are due, and no others."""
    steps = [step("a"), step("b")]
    assert names(difference("zap", steps, {"a": "good", "b": "bad"})) == ["b"]
    assert difference("zap", steps, {"a": "good", "b": "good"}) == []


REASONS = [
    Step(
        subject=name,
        probe="",
        wanted="",
        refuse=lambda fact: f"{fact} is missing" if fact else None,
        secrets=("hunter2",),
    )
    for name in ("x", "y")
]


@pytest.mark.parametrize(
    ("begun", "hint"),
    [
        (False, "nothing was changed"),
        (True, "earlier changes are kept; fix the cause and run the same command again"),
    ],
)
def test_refusals_come_together(begun: bool, hint: str) -> None:  # noqa: FBT001 - a column of the table
    """All reasons are given at once, without secrets, whether or not another step is due."""
    with pytest.raises(Refused) as caught:
        difference("zap", [step("a"), *REASONS], {"a": "bad", "x": "disk hunter2", "y": "key"}, begun=begun)
    assert caught.value.message == "disk •••• is missing; key is missing"
    assert caught.value.hint == hint


def test_nothing_is_refused() -> None:
    """Without a reason, nothing is raised, and a plan refuses as a difference does."""
    refuse("zap", REASONS, {"x": "", "y": ""})
    with pytest.raises(Refused, match=r"^key is missing\n  hint: nothing was changed$"):
        plan("zap", REASONS, {"x": "", "y": "key"})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ("good good good good", []),
        ("bad good good good", [("a", True), ("c", False), ("d", False)]),  # c reacts to a, and d to c
        ("bad bad good good", [("a", True), ("b", False), ("c", False), ("d", False)]),  # b comes after a
        ("good bad good good", [("b", True)]),
        ("good good bad good", [("c", True), ("d", False)]),
        ("good good good bad", [("d", True)]),
    ],
)
def test_plan(facts: str, expected: list[tuple[str, bool]]) -> None:
    """A change that depends on another is uncertain. A step that reacts to one is shown even if it is not due."""
    steps = [step("b", after=("a",)), step("d", reacts_to=("c",)), step("c", reacts_to=("a",)), step("a")]
    found = plan("zap", steps, dict(zip("abcd", facts.split(), strict=True)))
    assert [(change.subject, change.certain) for change in found] == expected
    assert found.host == "zap"


def test_plan_masks_secrets() -> None:
    """A secret of one step is masked in what another one shows."""
    shown = plan("zap", [step("a", secrets=("hunter2",)), step("b")], {"a": "bad", "b": "it is hunter2"})
    assert [change.before for change in shown] == ["bad", "it is ••••"]
    assert set(secrets_of([step("a", secrets=("x", "y")), step("b", secrets=("y",))])) == {"x", "y"}


def make(subject: str, *, shown: str | None, diff: str | None = None) -> Step:
    """A step with fixed texts."""
    return Step(subject=subject, probe="", wanted="new s3", shown=lambda _: shown, diff=lambda _: diff)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (make("file", shown=None), Change("create", "file", after="new ••••")),
        (make("file", shown="old s3"), Change("update", "file", before="old ••••", after="new ••••")),
        (make("file", shown=""), Change("update", "file", after="new ••••")),
        (make("file", shown="x" * 301), Change("update", "file", before="x" * 300 + "…", after="new ••••")),
        (
            make("file", shown="old", diff="-s3\n+é\udcff"),
            Change("update", "file", "old", "new ••••", detail="-••••\n+é�"),
        ),
        (make("command x", shown=None), Change("run", "command x", after="new ••••")),
        (make("commander", shown=None, diff=""), Change("create", "commander", after="new ••••")),
    ],
)
def test_change(step: Step, expected: Change) -> None:
    """A change creates what does not exist, updates what does, and runs commands. It shows no secrets or raw bytes."""
    assert change("zap", step, "", hidden=("s3",)) == expected
    assert change("zap", step, "", hidden=("s3",), certain=False).certain is False


@pytest.mark.parametrize(
    ("shown", "fact", "text"),
    [("now s3", "x", "now ••••"), (None, "first s3\nsecond", "first ••••"), ("", "", "nothing")],
)
def test_state(shown: str | None, fact: str, text: str) -> None:
    """The present state is what the step shows, or else its fact's first line, or else nothing."""
    assert state("zap", make("file", shown=shown), fact, ("s3",)) == text


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError, UnicodeError, AssertionError])
def test_unreadable_fact(error: type[Exception]) -> None:
    """A fact that a step cannot read is an error that names host and step, and shows the fact without secrets."""

    def fail(_fact: str) -> None:
        raise error

    broken = Step(
        subject="thing", probe="", wanted="", apply=fail, shown=fail, diff=fail, refuse=fail, secrets=("s3",)
    )
    for question in (broken.apply, broken.refuse, broken.shown, broken.diff):
        with pytest.raises(CommandFailed) as caught:
            read("zap", broken, question, "odd s3\n" + "x" * 400)
        assert caught.value.message == f"zap: thing: cannot read the guest's answer: {error.__name__}"
        assert caught.value.hint == "it was: 'odd ••••\\n" + "x" * 289 + "…"
    for call in (difference, plan):
        with pytest.raises(CommandFailed):
            call("zap", [broken], {"thing": ""})


def test_a_steps_own_error_passes() -> None:
    """What a step raises on purpose is not changed."""

    def fail(_fact: str) -> None:
        raise Refused("no")

    with pytest.raises(Refused, match=r"^no$"):
        read("zap", step("a"), fail, "")
    assert read("zap", step("a"), str.upper, "fact") == "FACT"


@pytest.mark.parametrize(
    ("text", "hidden", "expected"),
    [
        (
            "key abcdef and abc",
            ("abc", "abcdef", ""),
            "key •••• and ••••",
        ),  # longer ones first, so no rest stays
        ("plain", (), "plain"),
        ('say "x\\"y" or x"y', ('x"y',), 'say "••••" or ••••'),  # as JSON writes it
        ("--\nfirst line\n  second line\n}", ("first line\nsecond line\n}",), "--\n••••\n  ••••\n}"),
        ("caf\udcc3\udca9 \udcff", (), "café �"),  # bytes that were cut out of UTF-8 are whole again
        ("a\ud800b\udd00\udcff", (), "a\ufffdb\ufffd\ufffd"),
    ],
)
def test_mask(text: str, hidden: tuple[str, ...], expected: str) -> None:
    """Secrets become dots, and bytes that are not UTF-8 a replacement character."""
    assert mask(text, hidden) == expected


def test_brief() -> None:
    """A long text is cut after its secrets are masked, so that no part of one stays."""
    assert brief("x" * 300) == "x" * 300
    assert brief("x" * 301) == "x" * 300 + "…"
    assert brief("abcdef", longest=3) == "abc…"
    assert brief("ab secret", ("secret",), longest=6) == "ab ••••"[:6] + "…"


def test_unified() -> None:
    """A diff names both sides and has two lines of context. Equal contents have none."""
    before, after = "1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\nfour\n5\n6\n7\n"
    head = "--- /x (now)\n+++ /x (wanted)\n@@ -2,5 +2,5 @@\n"
    assert unified(before, after, "/x") == f"{head} 2\n 3\n-4\n+four\n 5\n 6"
    assert unified("a\n", "a\n", "/x") == ""
    assert unified("a\n", "a", "/x") == ""


def test_diffs_take_no_time() -> None:
    """Files of very many lines are not compared, since a hostile guest could make that take hours."""
    most = "\n" * 10_000
    assert unified(most, most, "/x") == ""
    assert unified(most + "\n", most, "/x") == "/x: 10001 lines now, 10000 wanted: too many to compare"
    assert unified(most[1:], most, "/x").startswith("--- /x")
    assert unified(most * 2, most * 2, "/x") == ""
