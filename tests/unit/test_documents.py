"""The commands in README.md, hosts/README.md and docs/ exist, with the options that are shown."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

import tasks
from swarm.fleet.variables import CARRIED, LEFT
from swarm.front.program import Program
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from invoke.parser.context import ParserContext

DOCUMENTS = [ROOT / "README.md", ROOT / "hosts/README.md", *sorted((ROOT / "docs").glob("*.md"))]
MIGRATION = ROOT / "docs/migration.md"
# A command in a code span, or a line of a block of code. What follows # is a remark, what follows | another program.
COMMAND = re.compile(r"`(?:\./)?inv ([^`\n]+)`|^(?:\./)?inv ([^#|\n]+)", re.MULTILINE)
OPTION = re.compile(r"`(--[a-z-]+)")


def contexts() -> dict[str, ParserContext]:
    """Return every task by each of its names."""
    every = tasks.namespace.to_contexts()
    return {name: context for context in every for name in (context.name, *context.aliases) if name}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a document, up to a lone --."""
    for match in COMMAND.finditer(text):
        words = shlex.split((match[1] or match[2]).replace("[-- words]", ""))
        yield words[: words.index("--")] if "--" in words else words


def wrong(words: list[str], known: dict[str, ParserContext], core: set[str]) -> list[str]:
    """Return what of a command does not exist."""
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    if words[0].startswith("-"):
        return [option for option in options if option not in core]
    if words[0] not in known:
        return [words[0]] if words[0] not in {"help", "TASK"} else []
    context = known[words[0]]
    return [each for each in options if each not in {*context.flags, *context.inverse_flags, *core}]


def core_options() -> set[str]:
    """Return the options of ./inv itself."""
    return {f"--{name}" for argument in Program().core_args() for name in argument.names}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists(path: Path) -> None:
    """Each command that a document shows is a task, and has every option that is shown with it."""
    text = path.read_text(encoding="utf-8")
    known, core = contexts(), core_options()
    found = {" ".join(words): bad for words in commands(text) if (bad := wrong(words, known, core))}
    assert not found
    for line in text.splitlines():
        if line.startswith("| `./inv"):
            own = [known[words[0]] for words in commands(line) if words[0] in known]
            flags = {flag for context in own for flag in context.flags} | core
            assert not [option for option in OPTION.findall(line) if option not in flags], line


def test_a_wrong_command_is_noticed() -> None:
    """The check above can fail: an unknown task, an unknown option and an unknown option of ./inv are found."""
    text = "`./inv provisoin --host zap` and `inv hosts --colour`\n./inv --lsit # all\n./inv litellm.up --native\n"
    known, core = contexts(), core_options()
    found = [wrong(words, known, core) for words in commands(text)]
    assert found == [["provisoin"], ["--colour"], ["--lsit"], []]


def test_the_readme_lists_every_command() -> None:
    """README.md names every task, for those in a collection at least with the collection."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {name.partition(".")[0] for name in contexts()}
    assert not [name for name in names if not re.search(rf"\binv {name}\b|`{name}`", text)]


def test_the_migration_table_is_the_programs() -> None:
    """docs/migration.md lists exactly the variables that `inv new --from` knows, each with its key or its reason."""
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (.+) \|$", MIGRATION.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {name: right for left, right in rows for name in re.findall(r"`([a-z_]+)`", left)}
    expected = {name: f"`{key}`" for name, (key, _) in CARRIED.items()} | LEFT
    assert shown == expected


@pytest.mark.parametrize(
    "old",
    [
        *(
            "inventory.yml",
            "host_vars/",
            "provision-vm.yml",
            "install-openclaw.yml",
            "customize.yml",
            "verify.yml",
        ),
        *(
            "backup-openclaw.sh",
            "restore-openclaw.sh",
            "start-litellm.sh",
            "stop-litellm.sh",
            "init-models.sh",
        ),
        *("dedup-models.sh", "health-check.sh", "openclaw-backup.timer", "openclaw-backup.service"),
        *("litellm.service", "agentmon"),
    ],
)
def test_every_old_file_has_its_command(old: str) -> None:
    """Each file of the old folder has a row that names the command which replaces it."""
    table = MIGRATION.read_text(encoding="utf-8").partition("## Files")[2].partition("## Variables")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    (row,) = [line for line in rows if re.search(rf"`[^`|]*{re.escape(old)}[^`|]*`", line.split("|")[1])]
    assert any(words[0] in contexts() for words in commands(row))
