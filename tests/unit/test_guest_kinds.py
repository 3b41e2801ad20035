"""Every kind of step as a table: what it asks, and given these facts, exactly this happens.

The expected texts are in test_guest_kinds.txt. After a deliberate change, regenerate them and review the diff:

    SWARM_WRITE_EXPECTED=1 python -m pytest tests/unit/test_guest_kinds.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import CommandFailed, Refused
from swarm.guest.engine.difference import change, difference, plan
from swarm.guest.kinds.firewall import firewall_default
from tests.step_cases import CASES, GOOD_KEY

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

EXPECTED = Path(__file__).with_suffix(".txt")


def described(step: Step, facts: tuple[str, ...]) -> str:
    """A step as text: its fields, and what it makes of each fact."""
    lines = [f"subject: {step.subject}", f"wanted: {step.wanted}", f"probe: {step.probe!r}"]
    lines += [f"after: {step.after}", f"reacts to: {step.reacts_to}", f"secrets: {step.secrets}"]
    lines += [f"known: {dict(step.known)}", f"reader: {step.reader!r}, unread: {step.unread!r}"]
    for fact in (step.unread, *facts) if step.reader else facts:
        lines += ["", f"  fact: {fact!r}", f"  refuse: {step.refuse(fact)}"]
        if step.refuse(fact) is None:
            lines += [
                f"  shown: {step.shown(fact)}",
                f"  apply: {step.apply(fact)!r}",
                f"  diff: {step.diff(fact)!r}",
            ]
    return "\n".join(lines).replace(GOOD_KEY, "GOOD_KEY")


def expected() -> dict[str, str]:
    """The expected texts by the case's name."""
    parts = EXPECTED.read_text(encoding="utf-8").split("\n=== ")[1:]
    return {name: text.strip("\n") for name, _, text in (part.partition(" ===\n") for part in parts)}


@pytest.mark.parametrize("name", CASES)
def test_kind(name: str) -> None:
    """A step asks exactly this, and makes exactly this of each fact."""
    assert described(*CASES[name]) == expected()[name]


@pytest.mark.parametrize("name", ["line", "line of a mount", "authorized keys"])
def test_lines_of_others_stay_as_they_are(name: str) -> None:
    """Only a newline ends a line of a file: a comment with a form feed or another odd character stays one line."""
    step, others = CASES[name][0], "# one\x0ctwo\u2028three\x85four\x1cfive\n"
    assert others in (step.apply(f"file 644 root root none\n{others}") or "")


def test_every_expectation_is_used() -> None:
    """No expected text is left over from a case that is gone. With SWARM_WRITE_EXPECTED, all are regenerated."""
    if os.environ.get("SWARM_WRITE_EXPECTED"):
        parts = [f"\n=== {name} ===\n{described(*case)}\n" for name, case in CASES.items()]
        EXPECTED.write_text("".join(parts), encoding="utf-8")
    assert list(expected()) == list(CASES)


def test_names_that_are_unknown() -> None:
    """A direction or a policy that UFW does not have is an error of the program."""
    with pytest.raises(KeyError):
        firewall_default("sideways", "deny")


def test_json_that_is_nested_too_deeply() -> None:
    """A JSON file with brackets without end is refused, like any other that is no object."""
    step = CASES["JSON file"][0]
    deep = f"file 644 root root none\n{'[' * 200_000}"
    assert step.refuse(deep) == "/etc/x.json is not a JSON object: nested too deeply"


FIRST_WORDS = st.sampled_from(
    [
        word
        for _, facts in CASES.values()
        for fact in facts
        for word in (fact, fact.split(" ")[0], fact.partition("\n")[0])
    ]
)
ANY = st.text(st.characters(codec=None), max_size=60)
HOSTILE = st.one_of(
    ANY,
    st.builds(
        "".join,
        st.lists(st.one_of(FIRST_WORDS, ANY, st.sampled_from([" ", "\n", "\n\n", "9" * 5000])), max_size=6),
    ),
)


@given(st.sampled_from(sorted(CASES)), HOSTILE)
def test_any_fact_is_handled(name: str, fact: str) -> None:
    """Whatever a guest answers, a step has a result, refuses, or fails with a sentence that names the host."""
    step = CASES[name][0]
    try:
        for todo in plan("zap", [step], {step.subject: fact}):
            assert todo.line()
        difference("zap", [step], {step.subject: fact})
        change("zap", step, fact)
    except Refused as error:
        assert error.message  # noqa: PT017 - either is fine
    except CommandFailed as error:
        assert error.message.startswith(f"zap: {step.subject}: ")  # noqa: PT017
