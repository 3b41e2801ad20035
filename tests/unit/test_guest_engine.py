"""The engine's pure parts: facts, differences, plans, masks. What it does to a host is in tests/nspawn."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import CommandFailed, Refused
from swarm.guest import engine
from swarm.guest.engine import Step, as_user, difference, mask, plan, unified
from swarm.remote import quote


def step(name: str, *, after: tuple[str, ...] = (), reacts_to: tuple[str, ...] = (), secrets: tuple[str, ...] = ()) -> Step:
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


def octal(data: bytes) -> str:
    """Bytes as printf's %b takes them."""
    return "".join(f"\\0{byte:03o}" for byte in data)


def shell(script: str, given_bytes: bytes = b"") -> bytes:
    """What a real sh prints for a script."""
    return subprocess.run(["sh"], input=script.encode("utf-8", "surrogateescape") + given_bytes, capture_output=True, check=True).stdout


@given(st.lists(st.text(), min_size=1))
def test_quote(words: list[str]) -> None:
    """Whatever the words are, the shell sees exactly them."""
    words = [word.replace("\0", "") for word in words]
    text = "".join(f"{word}\0" for word in words).encode("utf-8", "surrogatepass")
    script = f"printf '%s\\0' {quote(*words)}".encode("utf-8", "surrogatepass")
    assert subprocess.run(["sh"], input=script, capture_output=True, check=True).stdout == text


@given(st.lists(st.binary(), min_size=1, max_size=4))
def test_facts_are_exact(contents: list[bytes]) -> None:
    """A fact may hold any bytes, also some that look like the engine's own marks; only one newline at its end is not part of it."""
    mark = "\x1e0123456789ab"
    found = [Step(str(index), f"printf %b {quote(octal(data))}", "") for index, data in enumerate(contents)]
    facts = engine._facts("zap", found, shell(engine._probes(found, mark)), mark)  # noqa: SLF001
    read = [facts[str(index)].encode("utf-8", "surrogateescape") for index in range(len(contents))]
    assert read == [data.removesuffix(b"\n") for data in contents]


def test_probe_that_fails() -> None:
    """A probe that ends with an error is named: its empty fact must not pass for 'nothing there'."""
    mark = "\x1e0123456789ab"
    broken = Step("the thing", "exit 3", "")
    with pytest.raises(CommandFailed, match="looking at the thing failed with exit code 3"):
        engine._facts("zap", [broken], shell(engine._probes([broken], mark)), mark)  # noqa: SLF001


def test_missing_answer() -> None:
    """An answer that is cut short is an error, not a smaller one."""
    mark = "\x1e0123456789ab"
    two = [Step("one", "echo 1", ""), Step("two", "echo 2", "")]
    output = shell(engine._probes(two, mark))  # noqa: SLF001
    with pytest.raises(CommandFailed):
        engine._facts("zap", two, output[: output.index(b"fact 1") - 1], mark)  # noqa: SLF001


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
    assert unified("a\n", "b\n", "/x").splitlines() == ["--- /x (now)", "+++ /x (wanted)", "@@ -1 +1 @@", "-a", "+b"]
    assert unified("a\n", "a\n", "/x") == ""


def test_as_user_hides_the_script() -> None:
    """A script that runs as another user is in no argument: it goes through a pipe."""
    assert as_user("zed", "echo hidden").endswith("| as_user zed")


@given(st.text(max_size=60))
def test_half_a_script_runs_nothing(cut: str) -> None:
    """However little of a script arrives, nothing of it runs."""
    from swarm.remote import _wrap

    whole = _wrap(f"echo ran\n: {quote(cut.replace(chr(0), ''))}", "\x1emark")
    keep = len(cut) * 7 % (whole.index(b"swarm_script </dev/null"))
    done = subprocess.run(["sh"], input=whole[:keep], capture_output=True, check=False)
    assert b"ran" not in done.stdout
