"""The timers on a real system: as root and as a user, installed twice, run, shown and removed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe
import platformdirs
import pytest

from swarm.text import quote
from tests.conftest import ROOT

if TYPE_CHECKING:
    from swarm.ssh.guest import Guest
    from tools.lab import Machine

pytestmark = pytest.mark.slow

PROGRAM = "/opt/my project"
# What stands in for the command line: it records how it was called.
INV = (
    '#!/bin/sh\necho "$@" >>"$XDG_RUNTIME_DIR/calls"\nid -un >>"$XDG_RUNTIME_DIR/calls"\n[ "$3" != broken ]\n'
)
CALL = """
import json, sys
from swarm import timers
from swarm.errors import SwarmError
verb, options = sys.argv[1], json.loads(sys.argv[2])
try:
    found = getattr(timers, verb)(**options)
    print(json.dumps([each.to_json() for each in found] if verb == "status" else found))
except SwarmError as error:
    print(json.dumps({"error": error.message, "hint": error.hint}))
"""


@pytest.fixture
def project(guest: Guest, tmp_path: Path) -> str:
    """A copy of what the timers need in the machine, with a stand-in for the command line."""
    archive = tmp_path / "project.tar"
    libraries = [Path(str(each.__file__)).parent for each in (jinja2, markupsafe, platformdirs)]
    words = [f"--directory={ROOT}", "--exclude=__pycache__", "swarm", "systemd"]
    for library in libraries:
        words += [f"--directory={library.parent}", library.name]
    subprocess.run(["tar", "-cf", archive, *words], check=True)
    guest.put(archive, "/tmp/project.tar")  # noqa: S108 - in the machine
    place = quote(PROGRAM)
    guest.run(f"rm -rf {place}; mkdir -p {place} && tar -xf /tmp/project.tar --no-same-owner -C {place}")
    guest.run(
        f"cd {place} && printf %s {quote(INV)} >inv && printf %s {quote(CALL)} >call.py && chmod 755 inv ."
    )
    return PROGRAM


def call(guest: Guest, user: str, verb: str, **options: object) -> Any:  # noqa: ANN401 - JSON
    """Call a function of swarm.timers in the machine as `user`, without a session, as a service would."""
    python = quote("python3", f"{PROGRAM}/call.py", verb, json.dumps(options))
    home = f"HOME=$(getent passwd {user} | cut -d: -f6)"
    variables = f"-u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS {home} PYTHONPATH={quote(PROGRAM)}"
    return json.loads(guest.run(f"cd / && runuser -u {user} -- env {variables} {python}").stdout)


@pytest.mark.parametrize("user", ["root", "timekeeper"])
@pytest.mark.usefixtures("project")
def test_timers_are_installed_run_and_removed(machine: Machine, guest: Guest, user: str) -> None:
    """One installation is enough, a run is recorded with its result, and removing leaves no file behind."""
    if user != "root":
        guest.run(f"id {user} >/dev/null 2>&1 || useradd -m {user}; loginctl enable-linger {user}")
        machine.until(f"test -S /run/user/$(id -u {user})/bus", f"the user manager of {user}")
    hosts = ["zap-2", "broken"]
    planned, _ = call(guest, user, "install", hosts=hosts, plan_only=True)
    assert "enable openclaw-backup@zap-2.timer" in planned
    done, notes = call(guest, user, "install", hosts=hosts)
    assert [each for each in done if each.startswith("enable")] == [
        "enable openclaw-backup@zap-2.timer",
        "enable openclaw-backup@broken.timer",
    ]
    assert notes == []
    assert call(guest, user, "install", hosts=hosts) == [[], []]
    found = [each for each in call(guest, user, "status", hosts=hosts) if each["kind"] == "backup"]
    before = {each["host"]: each for each in found}
    assert all(each["installed"] and each["active"] and each["next"] for each in before.values())

    manager = f"runuser -u {user} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {user})"
    # As a run leaves it that is killed before systemd has read what it wrote.
    unit, home = "openclaw-backup@zap-2.timer", f"$(getent passwd {user} | cut -d: -f6)"
    stale = f"{manager} systemctl --user show --property=NeedDaemonReload --value {unit}"
    guest.run(f"sleep 1; touch {home}/.config/systemd/user/openclaw-backup@.timer")
    assert guest.run(stale).stdout == "yes\n"
    assert call(guest, user, "install", hosts=hosts) == [[], []]
    assert guest.run(stale).stdout == "no\n"
    for host in hosts:
        guest.run(f"{manager} systemctl --user start openclaw-backup@{host}.service", warn=True)
    calls = guest.run(f"cat /run/user/$(id -u {user})/calls").stdout.splitlines()
    assert calls == ["backup --host zap-2", user, "backup --host broken", user]
    guest.run(f"rm /run/user/$(id -u {user})/calls")

    assert call(guest, user, "remove", hosts=["broken"]) == ["disable openclaw-backup@broken.timer"]
    removed = call(guest, user, "remove", hosts=["zap-2"])
    assert removed[0] == "disable openclaw-backup@zap-2.timer"
    assert [Path(each).name for each in removed[1:]] == ["openclaw-backup@.service", "openclaw-backup@.timer"]
    assert call(guest, user, "remove", hosts=hosts) == []
    after = call(guest, user, "status", hosts=hosts)
    assert not any(each["installed"] or each["active"] for each in after)


@pytest.mark.usefixtures("project")
def test_the_health_check_of_litellm(guest: Guest) -> None:
    """The timer of the health check is installed once, runs `inv litellm.health`, and is removed on its own."""
    done, notes = call(guest, "root", "install", hosts=[], single=["health"])
    assert [each for each in done if each.startswith("enable")] == ["enable litellm-health-check.timer"]
    assert notes == []
    assert call(guest, "root", "install", hosts=[], single=["health"]) == [[], []]
    (timer,) = call(guest, "root", "status", hosts=[], single=["health"])
    assert (timer["host"], timer["kind"], timer["active"]) == ("LiteLLM", "health", True)
    manager = "XDG_RUNTIME_DIR=/run/user/0 systemctl --user"
    guest.run(f"rm -f /run/user/0/calls; {manager} start litellm-health-check.service")
    assert guest.run("cat /run/user/0/calls").stdout.splitlines() == ["litellm.health", "root"]
    removed = call(guest, "root", "remove", hosts=[], single=["health"])
    assert [Path(each.split()[-1]).name for each in removed] == [
        "litellm-health-check.timer",
        "litellm-health-check.service",
        "litellm-health-check.timer",
    ]


@pytest.mark.usefixtures("project")
def test_the_timer_of_the_plan(guest: Guest) -> None:
    """The timer of the plan runs `inv plan --host all`, and is installed and removed on its own."""
    done, _ = call(guest, "root", "install", hosts=[], single=["plan"])
    assert [each for each in done if each.startswith("enable")] == ["enable openclaw-plan.timer"]
    assert call(guest, "root", "install", hosts=[], single=["plan"]) == [[], []]
    manager = "XDG_RUNTIME_DIR=/run/user/0 systemctl --user"
    guest.run(f"rm -f /run/user/0/calls; {manager} start openclaw-plan.service")
    assert guest.run("cat /run/user/0/calls").stdout.splitlines() == ["plan --host all", "root"]
    removed = call(guest, "root", "remove", hosts=[], single=["plan"])
    assert removed[0] == "disable openclaw-plan.timer"


@pytest.mark.usefixtures("project")
def test_a_user_without_a_manager_is_told(guest: Guest) -> None:
    """Where lingering is not permitted and no manager runs, the error says what root has to do."""
    guest.run("id stranger >/dev/null 2>&1 || useradd -m stranger; loginctl disable-linger stranger")
    answer = call(guest, "stranger", "install", hosts=["zap"])
    assert answer["error"].startswith("no systemd user manager runs for stranger: ")
    assert "loginctl enable-linger stranger" in answer["hint"]
