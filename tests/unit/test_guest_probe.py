"""How facts are asked for and read, with a real sh. What probes find on a host is in tests/nspawn."""

from __future__ import annotations

import subprocess
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import CommandFailed
from swarm.guest.engine.probe import Step, as_user, prelude, probes, read_facts
from swarm.text import quote

MARK = "\x1e0123456789ab"
PRELUDE = prelude()  # as hosts get it


def octal(data: bytes) -> str:
    """Bytes as printf's %b takes them."""
    return "".join(f"\\0{byte:03o}" for byte in data)


def shell(script: str) -> bytes:
    """What a real sh prints for a script."""
    return subprocess.run(
        ["sh"], input=script.encode("utf-8", "surrogateescape"), capture_output=True, check=True
    ).stdout


def ask(steps: list[Step], before: str = "") -> dict[str, str]:
    """The facts of some steps, on this computer."""
    return read_facts("zap", steps, shell(f"{before}\n{probes(steps, MARK)}"), MARK)


def recalled(tables: str, script: str) -> str:
    """What functions of the prelude print, given tables of what is known."""
    return shell(f"{PRELUDE}\n{tables}\n{script}").decode()


@given(st.lists(st.binary(), min_size=1, max_size=4))
def test_facts_are_exact(contents: list[bytes]) -> None:
    """A fact may hold any bytes, also some that look like the marks; only one newline at its end is not part of it."""
    facts = ask(
        [Step(str(index), f"printf %b {quote(octal(data))}", "") for index, data in enumerate(contents)]
    )
    read = [facts[str(index)].encode("utf-8", "surrogateescape") for index in range(len(contents))]
    assert read == [data.removesuffix(b"\n") for data in contents]


def test_probe_that_fails() -> None:
    """A probe that ends with an error is named: its empty fact must not pass for 'nothing there'."""
    with pytest.raises(CommandFailed, match="looking at the thing failed with exit code 3"):
        ask([Step("the thing", "( exit 3 )", "")])


def test_probe_that_ends_the_shell() -> None:
    """A probe that takes the shared shell with it is named, too."""
    with pytest.raises(CommandFailed, match=r"looking at the thing failed$"):
        ask([Step("first", "echo 1", ""), Step("the thing", "exit 0", ""), Step("last", "echo 3", "")])


def test_missing_answer() -> None:
    """An answer that is cut short is an error, not a smaller one."""
    two = [Step("one", "echo 1", ""), Step("two", "echo 2", "")]
    output = shell(probes(two, MARK))
    with pytest.raises(CommandFailed, match="answered only 1 of 2 questions"):
        read_facts("zap", two, output[: output.index(b"fact 1") - len(MARK) - 1], MARK)


def test_readers_have_a_shell_of_their_own() -> None:
    """The steps of one reader share one shell, which is not root's; those of nobody have the fact that stands for that."""
    steps = [
        Step("a", "echo $who$shells", "", reader="root"),
        Step("b", "echo root", ""),
        Step("c", "echo $who$shells", "", reader="root"),
        Step("d", "echo never", "", reader="no-such-user", unread="absent"),
    ]
    # setpriv takes a privilege that a test may not have; all else is real.
    stand_in = "swarm_prelude=; shells=; as_user() { shells=$shells. who=$1 sh; }; export shells\n"
    assert ask(steps, stand_in) == {"a": "root.", "b": "root", "c": "root.", "d": "absent"}


# A user's shell that prints a forged answer with the mark that it was given, to the question with this number.
FORGER = """swarm_prelude=
as_user() {
  script=$(cat)
  case $script in *@ROOT@*) echo "root's mark is here" ;; esac
  mark=$(printf '%%s' "$script" | grep -o "$(printf '\\036')[0-9a-f]*" | head -n 1)
  printf '%%s fact %s\\nforged\\n\\n%%s done 0\\n' "$mark" "$mark"
}""".replace("@ROOT@", MARK)
TWO = [Step("root's", "echo bad", ""), Step("mine", "echo ok", "", reader="root")]


def test_a_reader_does_not_speak_for_root() -> None:
    """Whatever a user's shell prints, it changes no fact but the user's own."""
    assert ask(TWO, FORGER % "0") == {"root's": "bad", "mine": "forged"}


@pytest.mark.parametrize("number", ["1", "many", ""])
def test_answers_to_no_question(number: str) -> None:
    """An answer that fits no question is an error that says whose it is."""
    with pytest.raises(CommandFailed, match="zap: "):
        ask(TWO, FORGER % number)


def test_as_user_hides_the_script() -> None:
    """A script that runs as another user is in no argument: it goes through a pipe."""
    assert as_user("zed", "echo hidden").endswith("| as_user zed")


def test_known_units() -> None:
    """A unit's state is found under each of its names, and under no part of one."""
    tables = (
        "units_table='Names=a.service b.service\nActiveState=active\n\nNames=ab.service\nActiveState=failed'"
    )
    assert recalled(tables, "unit_fact b.service") == "Names=a.service b.service\nActiveState=active\n"
    assert recalled(tables, "unit_fact ab.service") == "Names=ab.service\nActiveState=failed\n"
    assert recalled(tables, "unit_fact c.service") == ""


@pytest.mark.parametrize(
    ("name", "group", "answer"),
    [("zed", "makers", "yes"), ("zed", "zed", "yes"), ("ze", "makers", "no"), ("zed", "x", "no")],
)
def test_members(name: str, group: str, answer: str) -> None:
    """A member of a group is one that the group names, or whose own group it is."""
    tables = "users_table='\nzed:x:7:70::/home/zed:/bin/sh\nze:x:8:80::/:/bin/sh\n' groups_table='\nmakers:x:9:ann,zed\nzed:x:70:\n'"
    assert recalled(tables, f"member_fact {name} {group}") == f"{answer}\n"


@pytest.mark.parametrize(
    ("choices", "asked"),
    [
        (("jq",), False),
        (("jq", "vim"), True),
        (("docker-cli|docker.io",), False),
        (("docker-buildx|",), False),
        (("x|y",), True),
    ],
)
def test_apt_is_asked_only_if_it_must(choices: tuple[str, ...], asked: bool) -> None:  # noqa: FBT001 - a column of the table
    """apt, which is slow, is asked for candidates only if something that must be there is missing."""
    tables = "packages_table='\njq\tinstalled 1.6\nvim\tconfig-files 2\ndocker.io\tinstalled 20\n'"
    stand_ins = "find() { echo _Packages; }; apt_cache() { shift 2; for name; do printf '%s:\\n  Candidate: 3\\n' \"$name\"; done; }"
    script = PRELUDE.replace("apt-cache policy", "apt_cache policy")
    said = shell(f"{script}\n{tables}\n{stand_ins}\nask=0\npackages_candidates 0 {quote(*choices)}").decode()
    names = [name for choice in choices for name in choice.split("|") if name]
    assert said == ("lists\n" + "".join(f"candidate {name} 3\n" for name in names) if asked else "")


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))),
    st.sampled_from([1, 100]),
)
def test_content_is_exact(content: bytes, times: int) -> None:
    """A file's content is its fact byte for byte, be it small or large, text or not."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content * times)
        file.flush()
        facts = ask(
            [Step("it", f"file_fact {quote(file.name)} none; echo", "")],
            f"{PRELUDE}\nknown_files {quote(file.name)}\n",
        )
    assert facts["it"].partition("\n")[2].encode("utf-8", "surrogateescape") == content * times


@pytest.mark.parametrize("name", ["plain", "with blank", "back\\slash", "star*", "new\nline"])
def test_known_files(tmp_path: object, name: str) -> None:
    """A file's fact is the same whether or not it was looked at with others before, whatever it is called."""
    path = f"{tmp_path}/{name}"
    with open(path, "w") as file:  # noqa: PTH123 - tmp_path as text, for the shell
        file.write("content\n")
    alone = recalled(
        "",
        f"file_fact {quote(path)} none; files_sum {quote(path, '/missing')}; folder_fact {quote(str(tmp_path))}",
    )
    known = recalled(
        "",
        f"known_files {quote('/missing', path, str(tmp_path))}\n"
        f"file_fact {quote(path)} none; files_sum {quote(path, '/missing')}; folder_fact {quote(str(tmp_path))}",
    )
    assert known == alone
    assert alone.startswith("file 644 ")
