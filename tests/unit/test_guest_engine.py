"""The engine's pure parts: differences, plans, masks. What it does to a host is in tests/nspawn."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import Refused
from swarm.guest.engine.converge import difference, mask, plan, unified
from swarm.guest.engine.probe import Step
from swarm.text import quote


def step(
    name: str, *, after: tuple[str, ...] = (), reacts_to: tuple[str, ...] = (), secrets: tuple[str, ...] = ()
) -> Step:
    """A step that is content with the fact 'good'."""
    return Step(
        name,
        "echo bad",
        "good",
        lambda fact: None if fact == "good" else "work",
        after,
        reacts_to,
        shown=lambda fact: fact,
        secrets=secrets,
    )


def test_difference() -> None:
    """Due are the steps whose fact is not what is wanted, and no others."""
    steps = [step("a"), step("b")]
    assert [due.subject for due in difference(steps, {"a": "good", "b": "bad"})] == ["b"]
    assert difference(steps, {"a": "good", "b": "good"}) == []


def test_refusals_come_together() -> None:
    """All reasons against the work are given at once, whether or not another step is due."""
    reasons = [Step(name, "", "", refuse=lambda fact: f"{fact} is missing") for name in ("x", "y")]
    with pytest.raises(Refused, match="disk is missing; key is missing") as caught:
        difference([step("a"), *reasons], {"a": "bad", "x": "disk", "y": "key"})
    assert caught.value.hint == "nothing was changed"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"a": "good", "b": "good", "c": "good"}, []),
        ({"a": "bad", "b": "good", "c": "good"}, [("a", True), ("c", False)]),  # c reacts to a
        ({"a": "bad", "b": "bad", "c": "good"}, [("a", True), ("b", False), ("c", False)]),  # b comes after a
        ({"a": "good", "b": "bad", "c": "good"}, [("b", True)]),
        ({"a": "good", "b": "good", "c": "bad"}, [("c", True)]),
    ],
)
def test_plan(facts: dict[str, str], expected: list[tuple[str, bool]]) -> None:
    """A change that hangs on another one is not certain; a step that reacts to one is shown even if all is well with it now."""
    steps = [step("b", after=("a",)), step("c", reacts_to=("a",)), step("a")]
    assert [(change.subject, change.certain) for change in plan("zap", steps, facts)] == expected


def test_plan_masks_secrets() -> None:
    """A secret of one step is masked in what another one shows."""
    shown = plan("zap", [step("a", secrets=("hunter2",)), step("b")], {"a": "bad", "b": "it is hunter2"})
    assert [change.before for change in shown] == ["bad", "it is ••••"]


def test_mask() -> None:
    """Longer secrets go first, so that no rest of them stays; an empty one masks nothing."""
    assert mask("key abcdef and abc", ("abc", "abcdef", "")) == "key •••• and ••••"


def test_unified() -> None:
    """A file's difference names both sides; equal contents have none."""
    assert unified("a\n", "b\n", "/x").splitlines() == [
        "--- /x (now)",
        "+++ /x (wanted)",
        "@@ -1 +1 @@",
        "-a",
        "+b",
    ]
    assert unified("a\n", "a\n", "/x") == ""


@given(st.text(max_size=60))
def test_half_a_script_runs_nothing(cut: str) -> None:
    """However little of a script arrives, nothing of it runs."""
    from swarm.ssh.remote import _wrap

    whole = _wrap(f"echo ran\n: {quote(cut.replace(chr(0), ''))}", "\x1emark")
    keep = len(cut) * 7 % (whole.index(b"swarm_script </dev/null"))
    done = subprocess.run(["sh"], input=whole[:keep], capture_output=True, check=False)
    assert b"ran" not in done.stdout
