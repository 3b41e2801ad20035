"""What `inv timers.install` writes does what it says when it is run: the command line of a service."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import timers
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
