"""Backup and restore as a user types them: a real sshd, real systemd, a state directory with live databases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.state import DATABASE, make_state, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.nspawn.at_the_prompt import Operator
    from tools.lab import Machine

pytestmark = pytest.mark.slow

STATE = "/home/openclaw/.openclaw"
LISTED = f"cd {STATE} && find . -not -path './workspace*' -not -path './logs*' -not -name '*.sqlite*' -type f"
SUMS = f"{LISTED} -print0 | sort -z | xargs -0 sha256sum; {LISTED} -printf '%m %u %T@ %p\\n' | sort"


@pytest.fixture
def state(operator: Operator, machine: Machine) -> Iterator[Path]:
    """The state directory of demo's account, as seen from this computer, with a writer at work."""
    assert operator.world  # it has made the account
    machine.ssh(f"rm -rf {STATE}* /home/openclaw/.swarm-backup")
    path = machine.root / STATE.lstrip("/")
    make_state(path, odd=True)
    machine.ssh(f"chown -R openclaw:openclaw {STATE}")
    with writing(path / DATABASE):
        yield path


def test_backup_and_restore(operator: Operator, machine: Machine, state: Path) -> None:
    """A backup is listed as verified, a second one has nothing to do, and a restore brings lost files back."""
    before = machine.ssh(SUMS)
    first = operator.inv("backup", "--host", "demo")
    assert first.code == 0, first.err
    assert "verified (content)" in first.err
    second = operator.inv("backup", "--host", "demo")
    assert (second.code, "nothing to do" in second.err) == (0, True), second.err
    (row,) = json.loads(operator.inv("backup.list", "--host", "demo", "--json").out)[0]["archives"]
    assert row["verified"] == "content"
    machine.ssh(f"rm -rf {STATE}/agents {STATE}/credentials")
    refused = operator.inv("backup", "--host", "demo")
    assert (refused.code, "agents" in refused.err) == (1, True), refused.err
    restored = operator.inv("restore", "--host", "demo", "--yes")
    assert restored.code == 0, restored.err
    assert machine.ssh(SUMS) == before
    assert (state / "workspace").is_dir()


def test_single_files(operator: Operator, machine: Machine, state: Path) -> None:
    """--path restores one file from an archive and leaves everything else alone. --plan only shows it."""
    lost = "agents/main/sessions/0003.jsonl"
    assert operator.inv("backup", "--host", "demo").code == 0
    machine.ssh(f"rm {STATE}/{lost}; echo newer >{STATE}/agents/main/sessions/0004.jsonl")
    words = ("restore", "--host", "demo", "--archive", "latest", "--path", lost)
    planned = operator.inv(*words, "--plan")
    assert (planned.code, lost in planned.err) == (0, True), planned.err
    assert not (state / lost).exists()
    restored = operator.inv(*words, "--yes")
    assert restored.code == 0, restored.err
    assert (state / lost).read_text(encoding="utf-8") == '{"number": 3}\n'
    assert (state / "agents/main/sessions/0004.jsonl").read_text(encoding="utf-8") == "newer\n"


def test_an_agent_is_asked_about_before_it_is_replaced(
    operator: Operator, machine: Machine, state: Path
) -> None:
    """Without --yes, and with nobody to ask, a restore shows its plan and changes nothing."""
    assert operator.inv("backup", "--host", "demo").code == 0
    machine.ssh(f"echo changed >{STATE}/.env")
    refused = operator.inv("restore", "--host", "demo")
    assert (refused.code, "update .env" in refused.err) == (1, True), refused.err
    assert (state / ".env").read_text(encoding="utf-8") == "changed\n"
