"""The row of a host, what it says in red, and what a person is told to type."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from swarm.errors import HypervisorError, Refused, VerificationFailed
from swarm.fleet.actions import actions, failed
from swarm.fleet.guest import inside
from swarm.fleet.status import COLUMNS, Archives, Inside, Status, row, shown
from swarm.vm import egress
from swarm.vm.refusals import refuse
from tests import samples
from tests.status_cases import timer, troubled, well
from tests.unit.facts import observed

if TYPE_CHECKING:
    from tests.conftest import Dirs


def test_a_host_that_is_well_has_nothing_red() -> None:
    """A host that is well has a row without a mark, and nothing to do."""
    assert dict(zip(COLUMNS, row(well()), strict=True)) == {
        "host": "ant", "VM": "running", "acceleration": "KVM", "ip": "192.168.122.2", "SSH": "ok", "drift": "none",
        "OpenClaw": "2026.11.2 ready", "disk": "33%", "backup": "ok, 5 h ago, verified", "drill": "4 d ago",
        "timers": "backup", "agentmon": "4.1 kB in 2",
    }  # fmt: skip
    assert actions(well()) == []


def test_a_silent_machine_has_no_console_of_ours() -> None:
    """A VM that does not answer has a serial console; a machine that swarm did not make has that of its engine."""
    (own,) = actions(replace(well(), ssh="no answer"))
    assert (own.what, own.command) == (
        "the VM runs, but the guest does not answer",
        "./inv console --host ant",
    )
    (foreign,) = actions(replace(well(), ssh="no answer", vm="foreign"))
    assert foreign.what == "the machine does not answer"
    assert "./inv" not in foreign.command


def test_a_paused_vm_is_resumed() -> None:
    """A VM that the hypervisor has paused answers nothing, so a person is told, with the command that resumes it."""
    paused = replace(well(), vm="paused", ssh="", inside=Inside())
    assert row(paused)[1] == "✗ paused"
    assert [each.command for each in actions(paused)] == ["./inv start --host ant"]


def test_a_name_that_begins_with_a_digit_is_no_number_of_changes(dirs: Dirs) -> None:
    """What keeps the VM of a host called 3d from its file is examined with a plan, as for every other name."""
    assert dirs.hosts.is_dir()
    host = samples.host("3d")
    seen = observed(host, filter=egress.Facts("<filter name='swarm-3d'><uuid>another</uuid></filter>"))
    with pytest.raises(Refused) as caught:
        refuse(host, seen)
    assert caught.value.message.startswith("3d: ")
    (found,) = actions(replace(well(), host="3d", drift=caught.value.message))
    assert found.what.startswith("the VM can't be brought to its host file: 3d: the hypervisor already has a")
    assert found.command == "./inv plan --host 3d"


def test_another_program_at_the_gateways_port_is_trouble() -> None:
    """If OpenClaw is installed and something else answers at its port, a person is told, as if nothing did."""
    answer = b"disk 1000 3000\ngateway Debian-7\nown version 2026.11.2 \n"  # of an SSH server
    (found,) = actions(replace(well(), inside=inside(answer)))
    assert (found.what, found.command) == (
        "OpenClaw's gateway does not answer",
        "./inv install --host ant",
    )


def test_each_trouble_has_a_command() -> None:
    """Each part in trouble is one sentence with the command that helps."""
    assert [(each.what, each.command) for each in actions(troubled())] == [
        ("the VM differs from its host file: 2 to change", "./inv provision --host bee --plan"),
        ("OpenClaw's gateway is not ready", "./inv install --host bee"),
        ("the disk is 97% full", "./inv ssh --host bee -- du -xhd2 / (or raise vm.disk_size)"),
        ("67.1 MB of agentmon events wait in the guest", "./inv hook.test --host bee"),
        ("the last backup failed 3 h ago", "./inv backup --host bee"),
        ("the last drill failed 24 h ago", "./inv drill --host bee"),
        ("the last backup by its timer failed (exit code 1)",
         "journalctl --user -e -u openclaw-backup@bee.service"),
        ("the timer of the drill is stopped", "./inv timers.install --host bee --drill"),
    ]  # fmt: skip


def test_each_red_cell_has_a_command_and_each_command_a_red_cell() -> None:
    """A row has a red cell exactly if there is something to do."""
    for status in (well(), troubled(), Status("x", "stopped"), Status("x", "none"), *_variants()):
        red = [cell for cell in row(status) if cell.startswith("✗")]
        assert bool(red) == bool(actions(status)), status


def _variants() -> list[Status]:
    changes: list[dict[str, Any]] = [
        {"vm": "crashed"},
        {"vm": "paused", "ssh": ""},
        {"drift": "waits for a restart"},
        {"drift": "h.yaml:3: vm.disk_path: /a is used by the domain 'b'"},
        *({"ssh": word} for word in ("no pinned key", "other host key", "login refused", "no answer")),
        {"inside": Inside("1.2.3", "no answer")},
        {"inside": Inside("", "no answer")},
        {"inside": Inside("1.2.3", "")},
        {"inside": Inside(used=9, free=1)},
        {"inside": Inside(used=0, free=0)},
        {"inside": Inside(spool=(1, 16 << 20))},
        {"inside": Inside(spool=(0, 0))},
        {"archives": Archives(backup="✗ none succeeded")},
        {"archives": Archives(backup="✗ interrupted")},
        {"archives": Archives(backup="✗ last one 3 d ago")},
        {"archives": Archives(drill="✗ failed 3 d ago")},
        {"timers": None},
        {"timers": (timer("ant", "backup", active=False),)},
        {"timers": (timer("ant", "drill", "oom-kill"),)},
    ]
    return [replace(well(), **each) for each in changes]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("✗ none succeeded", "no backup has succeeded"),
        ("✗ interrupted", "the last backup was interrupted"),
        ("✗ last one 3 d ago", "the last backup is from 3 d ago"),
    ],
)
def test_what_is_wrong_with_backups_is_a_sentence(words: str, sentence: str) -> None:
    """The few words of the table become a sentence in the list."""
    assert [each.what for each in actions(Status("zap", archives=Archives(backup=words)))] == [sentence]


def test_an_error_says_its_hint() -> None:
    """A host about which nothing is known, and a damaged record, have the hint of their error as advice."""
    error = HypervisorError("connecting failed\nat length", "start it")
    assert failed("zap", error).to_json() == {
        "host": "zap",
        "what": "connecting failed",
        "command": "start it",
    }
    assert failed("zap", HypervisorError("no hint")).command == "./inv doctor"
    damaged = Archives(backup="✗ it is damaged", trouble=VerificationFailed("it is damaged", "move it away"))
    assert [(each.what, each.command) for each in actions(Status("zap", archives=damaged))] == [
        ("it is damaged", "move it away")
    ]


def test_json_keeps_its_fields_and_gains_some() -> None:
    """The fields that scripts know stay, and the new ones are plain data with their unit in the name."""
    data = troubled().to_json()
    assert {name: data[name] for name in ("host", "vm", "acceleration", "ip", "ssh", "drift", "backup")} == {
        "host": "bee", "vm": "running", "acceleration": "emulation", "ip": "192.168.122.3", "ssh": "ok",
        "drift": "2 to change", "backup": "✗ failed 3 h ago",
    }  # fmt: skip
    assert (data["openclaw"], data["gateway"], data["pinned"]) == ("2026.11.2", "not ready", True)
    assert (data["disk_used_ratio"], data["spool"]) == (0.9667, {"files": 40, "bytes": 64 << 20})
    assert (data["last_backup"], data["backup_verified"]) == ("2026-09-19T14:13:20+00:00", "ciphertext")
    assert [each["kind"] for each in data["timers"]] == ["backup", "drill"]
    empty = Status("zap").to_json()
    assert (empty["disk_used_ratio"], empty["last_backup"], empty["timers"], empty["spool"]) == (None,) * 4


def test_empty_columns_are_left_out() -> None:
    """A column in which no host has anything is not shown, but the first six always are."""
    columns, rows = shown([row(Status("zap", "stopped"))])
    assert (columns, rows) == (list(COLUMNS[:6]), [("zap", "stopped", "", "", "", "")])
    assert shown([row(Status("zap")), row(well())])[0] == list(COLUMNS)
