"""How facts are asked for, with a real sh, and how any answer is read. What probes find is in tests/nspawn."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import CommandFailed
from swarm.guest.engine.facts import FactReader, number
from swarm.guest.engine.script import mark_for, probes
from swarm.guest.engine.step import Step
from swarm.text import quote
from tests.model_guest import lines_of, shell

MARK = "\x1e0123456789ab"


def octal(data: bytes) -> str:
    """Bytes as printf's %b takes them."""
    return "".join(f"\\0{byte:03o}" for byte in data)


def question(subject: str, probe: str, *, reader: str = "", unread: str = "") -> Step:
    """A step that only asks."""
    return Step(subject=subject, probe=probe, wanted="", reader=reader, unread=unread)


def read(steps: list[Step], lines: list[bytes]) -> dict[str, str]:
    """The facts of some steps, as these lines of output tell them."""
    reader = FactReader("zap", steps, MARK)
    for line in lines:
        reader.take(line)
    return reader.facts()


def ask(steps: list[Step], before: str = "") -> dict[str, str]:
    """The facts of some steps, on this computer."""
    return read(steps, lines_of(shell(f"{before}\n{probes(steps, MARK)}")))


@given(st.lists(st.binary(), min_size=1, max_size=4))
def test_facts_are_exact(contents: list[bytes]) -> None:
    """A fact may hold any bytes, also some that look like the marks; only one newline at its end is not part of it."""
    facts = ask(
        [question(str(index), f"printf %b {quote(octal(data))}") for index, data in enumerate(contents)]
    )
    read = [facts[str(index)].encode("utf-8", "surrogateescape") for index in range(len(contents))]
    assert read == [data.removesuffix(b"\n") for data in contents]


@pytest.mark.parametrize("slow", [False, True])
def test_probe_that_fails(*, slow: bool) -> None:
    """A probe that fails is named. Its empty fact must not mean that the thing is absent."""
    heart = "swarm_beats() { :; }; swarm_quiet() { :; }"
    with pytest.raises(CommandFailed, match=r"^zap: reading the thing failed with exit code 3$"):
        ask([replace(question("the thing", "( exit 3 )"), slow=slow)], heart)


def test_probe_that_ends_the_shell() -> None:
    """A probe that ends the shared shell is named, too."""
    with pytest.raises(CommandFailed, match=r"^zap: reading the thing failed: its probe ended the shell$"):
        ask([question("first", "echo 1"), question("the thing", "exit 0"), question("last", "echo 3")])


def test_missing_answer() -> None:
    """An answer that is cut short is an error, not a smaller one."""
    output = lines_of(shell(probes(TWO_OWN, MARK)))
    with pytest.raises(CommandFailed, match="received only 1 of 2 answers") as caught:
        read(TWO_OWN, output[:4])
    assert "whether /run is full" in (caught.value.hint or "")


def test_readers_have_a_shell_of_their_own() -> None:
    """The steps of one reader share one shell, which is not root's; those of an unknown user have the fact for that."""
    steps = [
        question("a", "echo $who$shells", reader="root"),
        question("b", "echo root"),
        question("c", "echo $who$shells", reader="root"),
        question("d", "echo never", reader="no-such-user", unread="absent"),
    ]
    # setpriv takes a privilege that a test may not have; all else is real.
    stand_in = "swarm_prelude=; shells=; as_user() { shells=$shells. who=$1 sh; }; export shells\n"
    assert ask(steps, stand_in) == {"a": "root.", "b": "root", "c": "root.", "d": "absent"}


# A user's shell that prints a forged answer, with the mark that it was given, to the question with this number.
FORGER = """swarm_prelude=
as_user() {
  script=$(cat)
  case $script in *@ROOT@*) echo "root's mark is here" ;; esac
  mark=$(printf '%%s' "$script" | grep -o "$(printf '\\036')[0-9a-f]*" | head -n 1)
  printf '%%s fact %s\\nforged\\n\\n%%s done 0\\n' "$mark" "$mark"
}""".replace("@ROOT@", MARK)
TWO_OWN = [question("one", "echo 1"), question("two", "echo 2")]
TWO = [question("root's", "echo bad"), question("mine", "echo ok", reader="root")]


def test_a_reader_does_not_speak_for_root() -> None:
    """A user's shell can forge only the user's own facts."""
    assert ask(TWO, FORGER % "0") == {"root's": "bad", "mine": "forged"}


@pytest.mark.parametrize("index", ["1", "many", ""])
def test_answers_to_no_question(index: str) -> None:
    """An answer that fits no question is an error that names the host."""
    with pytest.raises(CommandFailed, match=r"^zap: received an unexpected answer from the guest$"):
        ask(TWO, FORGER % index)


def test_users_shell_that_fails() -> None:
    """A user's shell that fails is named, and so is a probe in it that fails."""
    with pytest.raises(CommandFailed, match=r"^zap: reading what root has failed with exit code 7$"):
        ask(TWO, "swarm_prelude=; as_user() { cat >/dev/null; return 7; }")
    ended = [question("mine", "exit 0", reader="root")]
    with pytest.raises(CommandFailed, match=r"^zap: reading mine failed: its probe ended the shell$"):
        ask(ended, "swarm_prelude=; as_user() { sh; }")


def marked(*parts: str) -> list[bytes]:
    """Lines of output; those that begin with a > are marks."""
    return [part.replace(">", f"{MARK} ", 1).encode() for part in parts]


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (marked(">fact 0", "a", ">done 0", ">fact 1", "b", ">done 0"), {"one": "a", "two": "b"}),
        (marked(">fact 0", "a", "", ">done 0", ">fact 1", "", ">done 0"), {"one": "a", "two": ""}),
        (marked(">fact 0", "a", "b", "", "", ">done 0", ">fact 1", ">done 0"), {"one": "a\nb\n", "two": ""}),
        (
            marked("noise", ">begin 0", ">fact 0", "a", ">done 0", "", ">fact 1", "b", ">done 0"),
            {"one": "a", "two": "b"},
        ),
        # A sign of life may come anywhere, also in the middle of a line.
        (
            marked(
                ">beat",
                ">fact 0",
                "a>beat",
                "a",
                "b>beat",
                ">beat",
                "",
                ">done 0",
                ">beat",
                ">fact 1",
                "",
                ">done 0",
            ),
            {"one": "aa\nb", "two": ""},
        ),
    ],
)
def test_answers(lines: list[bytes], facts: dict[str, str]) -> None:
    """Facts are what stands between their marks, without one newline; everything else is left out."""
    assert read(TWO_OWN, lines) == facts


@pytest.mark.parametrize(
    "lines",
    [
        marked(">done 0"),
        marked(">fact 1"),
        marked(">fact 2"),
        marked(">fact"),
        marked(">fact 0 0"),
        marked(">fact x"),
        marked(f">fact {'0' * 5000}"),
        marked(">fact 0", ">fact 1"),
        marked(">fact 0", ">begin 0"),
        marked(">fact 0", ">no-user"),
        marked(">fact 0", ">done"),
        marked(">fact 0", ">done 0 0"),
        marked(">fact 0", ">done -1"),
        marked(">fact 0", f">done {'9' * 5000}"),
        marked(">fact 0", ">done 0", ">fact 0"),
        marked(">fact 0", ">done 0", ">fact 1", ">done 0", ">fact 2"),
    ],
)
def test_malformed_answers(lines: list[bytes]) -> None:
    """Marks that the probes cannot have printed are an error that names the host."""
    with pytest.raises(CommandFailed, match=r"^zap: received an unexpected answer from the guest$"):
        read(TWO_OWN, lines)


def test_other_lines_are_handed_on() -> None:
    """Lines that belong to no fact are handed on in order, with other marks among them."""
    others: list[bytes] = []
    reader = FactReader("zap", TWO_OWN, MARK, others.append)
    for line in marked("a", ">begin 0", ">fact 0", "b", ">done 0", "c", "d>beat", "e", ">no-user"):
        reader.take(line)
    assert others == marked("a", ">begin 0", "c", "de", ">no-user")


MIB = 1 << 20


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([b"x" * (MIB - 1)], None),
        ([b"x" * MIB], "one"),
        ([b"x" * 1023] * 1024, None),
        ([b"x" * 1023] * 1024 + [b""], "one"),
        ([b"x" * 1000 + f"{MARK} beat".encode()] * 1049, "one"),
    ],
)
def test_a_fact_is_bounded(lines: list[bytes], what: str | None) -> None:
    """A fact of more than a mebibyte is an error, however it is cut into lines."""
    reader = FactReader("zap", TWO_OWN, MARK)
    reader.take(f"{MARK} fact 0".encode())
    too_large = pytest.raises(CommandFailed, match=rf"^zap: the answer about {what} is too large$")
    with too_large if what else nullcontext():
        deque(map(reader.take, lines))


def test_facts_are_bounded_together() -> None:
    """All facts of a conversation may have eight mebibytes, and a user's shell too."""
    steps = [question(str(index), "") for index in range(9)]
    output = [
        line
        for index in range(8)
        for line in (*marked(f">fact {index}"), b"x" * (MIB - 1), *marked(">done 0"))
    ]
    assert len(read(steps[:8], output)) == 8
    with pytest.raises(CommandFailed, match=r"^zap: the answer about 8 is too large$"):
        read(steps, [*output, *marked(">fact 8", "")])
    endless = [*marked(">fact 1"), *[b"x" * 1023] * (8 * 1024 - 1)]
    with pytest.raises(CommandFailed, match=r"^zap: the answer about what root has is too large$"):
        read(TWO, [*marked(">fact 0", "", ">done 0"), *endless, b"", b"x" * 1100])
    with pytest.raises(CommandFailed, match=r"^zap: the answer about nothing that was asked is too large$"):
        read(TWO, [b"x" * MIB + f"{MARK} beat".encode(), f"x{MARK} beat".encode()])


PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(marked(">fact 0", ">fact 1", ">done 0", ">done 1", ">no-user", ">beat", ">begin 0", ">")),
    st.sampled_from(
        [word.encode() for word in (f"{mark_for('root', MARK)} fact 0", f"{mark_for('root', MARK)} done 0")]
    ),
)


@given(st.lists(PIECES, max_size=12), st.booleans())
def test_any_answer_is_handled(lines: list[bytes], own: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Whatever a guest sends, the reader returns all facts or raises an error that names the host."""
    steps = TWO_OWN if own else TWO
    try:
        assert set(read(steps, lines)) == {step.subject for step in steps}
    except CommandFailed as error:
        assert error.message.startswith("zap: ")  # noqa: PT017 - either is fine


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (b"0", 0),
        (b"75", 75),
        (b"999999", 999999),
        (b"1000000", None),
        (b"", None),
        (b"-1", None),
        (b"1 ", None),
        ("\N{ARABIC-INDIC DIGIT ONE}".encode(), None),
    ],
)
def test_numbers(word: bytes, value: int | None) -> None:
    """A number has one to six ASCII digits."""
    assert number(word) == value
