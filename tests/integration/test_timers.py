"""What `inv timers.install` writes does what it says when it is run: the command line of a service."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import timers
from swarm.commands import drift
from swarm.embedded import Embedded
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


def words(value: str) -> list[str]:
    """Return the words of a setting, as systemd reads it: quotes, then $$ and %%."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(value)]


def run_as_a_service(text: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a service's command line with the variables and in the folder that its unit states, and with no others."""
    settings = dict[str, list[str]]()
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        settings.setdefault(key, []).append(value)
    variables = dict(word.split("=", 1) for line in settings["Environment"] for word in words(line))
    return subprocess.run(
        words(settings["ExecStart"][0]),
        cwd=settings["WorkingDirectory"][0].replace("%%", "%"),
        env={"HOME": str(home), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# systemctl for a machine on which no user manager runs: `stopped` and `failed` list units, one a line.
SYSTEMCTL = """#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
*Version*) exit ;;
*list-timers*)
    echo '[{"unit": "litellm-health-check.timer", "last": 1}, {"unit": "openclaw-plan.timer", "last": 1}]'
    exit ;;
esac
while [ "$1" != -- ]; do shift; done
shift
for unit; do
    active=active result=success
    grep -qx "$unit" stopped && active=inactive
    case $unit in *.service) active=inactive ;; esac
    code=$(sed -n "s/^$unit //p" failed)
    [ -z "$code" ] || result=exit-code
    printf 'Id=%s\nLoadState=loaded\nActiveState=%s\n' "$unit" "$active"
    printf 'Result=%s\nExecMainStatus=%s\n\n' "$result" "$code"
done
"""


class Machine:
    """A machine with the two timers that are no host's, as `inv timers.install` leaves them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.units, self.programs = folder / "config/systemd/user", folder / "bin"
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("SWARM_LITELLM", str(folder / "litellm"))
        patch.setenv("PATH", f"{self.programs}:{os.environ['PATH']}")
        (self.units / "timers.target.wants").mkdir(parents=True)
        self.programs.mkdir()
        (self.programs / "systemctl").write_text(SYSTEMCTL, encoding="utf-8")
        (self.programs / "systemctl").chmod(0o755)
        self.say()
        for name, text in timers.render([timers.HEALTH, timers.DRIFT], {"PATH": "/usr/bin"}).items():
            (self.units / name).write_text(text, encoding="utf-8")
            if name.endswith(".timer"):
                (self.units / "timers.target.wants" / name).symlink_to(self.units / name)

    def say(self, *, stopped: str = "", failed: str = "") -> None:
        """Let systemctl call a unit stopped, or failed with a number."""
        (self.programs / "stopped").write_text(f"{stopped}\n", encoding="utf-8")
        (self.programs / "failed").write_text(f"{failed}\n", encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path, dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with both timers and two hosts that have none."""
    for name in ("ant", "bee"):
        ip = {"ant": "192.168.122.41", "bee": "192.168.122.42"}[name]
        mac = {"ant": "52:54:00:00:00:41", "bee": "52:54:00:00:00:42"}[name]
        text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8").replace("demo", name)
        text = re.sub(r"ip: \S+", f"ip: {ip}", re.sub(r"mac: \S+", f"mac: {mac}", text))
        (dirs.hosts / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Machine(tmp_path, monkeypatch)


def found_on(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Return the exit code of the plan, and for each name the units that differ, with the reason."""
    capsys.readouterr()
    code = drift.plan(words, only="timers", as_json=True)
    data = json.loads(capsys.readouterr().out)
    return code, {each["host"]: [(one["subject"], one["before"]) for one in each["changes"]] for each in data}


def test_the_timers_of_the_machine_are_examined_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped, a changed and a failed timer of this machine is drift, once and only in the plan of all hosts."""
    hosts: dict[str, list[tuple[str, str]]] = {"ant": [], "bee": []}
    assert found_on("all", capsys) == (0, {**hosts, "this machine": []})
    for unit in ("openclaw-plan.timer", "litellm-health-check.timer"):
        machine.say(stopped=unit)
        assert found_on("all", capsys) == (2, {**hosts, "this machine": [(unit, "not active")]})
    assert found_on("ant,bee", capsys) == (0, hosts)
    machine.say(failed="litellm-health-check.service 1")
    failed = [("litellm-health-check.timer", "its last run failed: exit code 1")]
    assert found_on("all", capsys) == (2, {**hosts, "this machine": failed})
    machine.say()
    (machine.units / "openclaw-plan.timer").write_text("[Timer]\nOnCalendar=yearly\n", encoding="utf-8")
    changed = [("openclaw-plan.timer", "differs from what timers.install writes")]
    assert found_on("all", capsys) == (2, {**hosts, "this machine": changed})


def test_drift_that_the_timer_has_found_is_not_drift_itself(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """That last night's plan found something is no drift of its own, or it would never end; that it crashed is."""
    for code, expected in (
        (1, []),
        (2, []),
        (137, [("openclaw-plan.timer", "its last run failed: exit code 137")]),
    ):
        machine.say(failed=f"openclaw-plan.service {code}")
        assert found_on("all", capsys)[1]["this machine"] == expected


def test_a_machine_without_such_timers_is_not_named(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether this machine has timers is the user's choice: without any, the plan does not mention it."""
    for path in (machine.units / "timers.target.wants").iterdir():
        path.unlink()
    assert found_on("all", capsys) == (0, {"ant": [], "bee": []})


@pytest.mark.usefixtures("able")
def test_the_service_of_the_plan_reports_drift(
    tmp_path: Path, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command in openclaw-plan.service examines every host, and ends with 2 on drift, with 1 if one is broken."""
    project = tmp_path / "a 100% $project"
    project.mkdir()
    (project / "inv").write_text(f'#!/bin/sh\nexec {sys.executable} -P {ROOT}/swarm/__main__.py "$@"\n')
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path / "litellm"))
    demo = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(("ant", "bee")):
        own = demo.replace("demo", name).replace("de:30", f"de:4{number}").replace("122.30", f"122.4{number}")
        (dirs.hosts / f"{name}.yaml").write_text(own, encoding="utf-8")
    unit = timers.render([timers.DRIFT], timers.variables(os.environ), project)["openclaw-plan.service"]
    drift = run_as_a_service(unit, tmp_path)
    (dirs.hosts / "bee.yaml").write_text("vm: [\n", encoding="utf-8")
    broken = run_as_a_service(unit, tmp_path)
    Embedded(dirs.state).stop()
    assert drift.returncode == 2, drift.stderr
    assert broken.returncode == 1, broken.stderr
    for ran, names in ((drift, ["ant", "bee"]), (broken, ["ant"])):
        for name in names:
            assert re.search(rf"^{name} \+ domain: {name}", ran.stderr, re.MULTILINE), ran.stderr
        assert "Traceback" not in ran.stderr
    assert "bee.yaml:2: invalid YAML" in broken.stderr
