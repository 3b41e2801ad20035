"""The timers' units as they are rendered, and what systemctl prints as it is read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import timers, units
from swarm.commands import timers as commands
from swarm.errors import CommandFailed, InventoryError, Unfit, UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from tests.conftest import Dirs

ALL = [*timers.KINDS, timers.HEALTH, timers.DRIFT]
ROOTS = ["/opt/swarm", "/srv/my swarm", "/srv/50%/\"a\"\\$HOME 'b'"]


def test_the_units_run_the_backup_of_their_instance() -> None:
    """The service runs `inv backup` for the instance's host, and the timer runs every night."""
    units = timers.render(timers.KINDS, {"PATH": "/usr/bin"}, Path("/opt/swarm"))
    assert sorted(units) == [
        "openclaw-backup@.service",
        "openclaw-backup@.timer",
        "openclaw-drill@.service",
        "openclaw-drill@.timer",
    ]
    service = units["openclaw-backup@.service"].splitlines()
    assert 'ExecStart=/bin/sh "/opt/swarm/inv" backup --host %i' in service
    assert 'Environment="PATH=/usr/bin"' in service
    assert "OnCalendar=*-*-* 03:00:00" in units["openclaw-backup@.timer"]
    assert "Persistent=true" in units["openclaw-backup@.timer"]
    assert 'ExecStart=/bin/sh "/opt/swarm/inv" drill --host %i' in units["openclaw-drill@.service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("root", ROOTS)
def test_systemd_accepts_the_units(root: str, tmp_path: Path) -> None:
    """systemd-analyze finds nothing wrong, whatever characters are in the project's path and the variables."""
    project = tmp_path / root.strip("/")
    project.mkdir(parents=True)
    (project / "inv").write_text("#!/bin/sh\n")
    (project / "inv").chmod(0o755)
    folder = tmp_path / "units"
    folder.mkdir()
    values = {"PATH": "/usr/bin:/bin", "SWARM_HOSTS": f"{project}/hosts"}
    for name, text in timers.render(ALL, values, project).items():
        (folder / name.replace("@", "@zap-2")).write_text(text)
    names = sorted(map(str, folder.iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "--user", "--recursive-errors=no", "--man=no", "verify", *names],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("kind", "first", "hours"),
    [
        ("backup", "03:00", 24),
        ("drill", "05:00", 7 * 24),
        (timers.HEALTH, None, 6),
        (timers.DRIFT, "06:00", 24),
    ],
)
def test_systemd_reads_the_calendar_as_it_is_meant(kind: str, first: str | None, hours: int) -> None:
    """Each timer elapses as often as the documents say, and at their hour."""
    files = timers.render([kind], {}, Path("/opt/swarm"))
    [text] = [text for name, text in files.items() if name.endswith(".timer")]
    [calendar] = re.findall(r"^OnCalendar=(.*)$", text, re.MULTILINE)
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", calendar],
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    runs = [
        datetime.fromisoformat(each)
        for each in re.findall(r"(?:Next elapse|Iter. #2): \w+ (\S+ \S+) UTC", done.stdout)
    ]
    assert len(runs) == 2, done.stdout
    assert runs[1] - runs[0] == timedelta(hours=hours)
    assert first is None or f"{runs[0]:%H:%M}" == first


def test_litellm_is_checked_every_six_hours() -> None:
    """The health check is one unit for the whole machine, not one for each host."""
    files = timers.render([timers.HEALTH], {}, Path("/opt/swarm"))
    assert sorted(files) == ["litellm-health-check.service", "litellm-health-check.timer"]
    service = files["litellm-health-check.service"].splitlines()
    assert 'ExecStart=/bin/sh "/opt/swarm/inv" litellm.health' in service
    assert "OnCalendar=*-*-* 00/6:15:00" in files["litellm-health-check.timer"]


def test_a_path_with_a_newline_is_refused() -> None:
    """A newline would begin another setting."""
    with pytest.raises(UsageError, match=r"/srv/a\\nExecStart=x can't be written to a unit file"):
        timers.render(["backup"], {}, Path("/srv/a\nExecStart=x"))


def test_only_what_is_needed_is_passed_on() -> None:
    """Directories and the names of credential files are passed on. Credentials are not."""
    given = {
        "PATH": "/usr/bin",
        "SWARM_HOSTS": "/srv/hosts",
        "XDG_STATE_HOME": "",
        "AWS_PROFILE": "zap",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "secret",
        "SSH_AUTH_SOCK": "/run/agent",
        "SWARM_DEBUG": "1",
    }
    expected = {"PATH": "/usr/bin", "SWARM_HOSTS": "/srv/hosts", "AWS_PROFILE": "zap", "SWARM_NO_APT": "1"}
    assert timers.variables(given) == expected


def test_relative_directories_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The units run in another directory than the command that installs them."""
    monkeypatch.chdir(tmp_path)
    assert timers.variables({"SWARM_HOSTS": "hosts"})["SWARM_HOSTS"] == f"{tmp_path}/hosts"


@pytest.mark.parametrize(
    "name", ["SWARM_AGE_IDENTITY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"]
)
def test_relative_files_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """A file that is named relative to the current directory or to the home is found at night too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/srv/me")
    assert timers.variables({name: "keys/zap"})[name] == f"{tmp_path}/keys/zap"
    assert timers.variables({name: "~/keys/zap"})[name] == "/srv/me/keys/zap"
    assert timers.variables({name: "/keys/zap"})[name] == "/keys/zap"


def test_a_proxy_is_passed_on_without_a_login() -> None:
    """The timers use the same proxy as the command that installs them, unless its address holds a login."""
    given = {
        "HTTP_PROXY": "http://proxy.example:3128",
        "https_proxy": "proxy.example:3128",
        "NO_PROXY": "localhost,.example",
        "no_proxy": "localhost",
    }
    assert timers.variables(given) == {**given, "SWARM_NO_APT": "1"}
    for address in ("http://me:secret@proxy.example:3128", "token@proxy.example", "me:secret@proxy:3128"):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            assert timers.variables({name: address}) == {"SWARM_NO_APT": "1"}


def test_a_proxy_with_a_login_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs timers names each variable that it leaves out, and not its value."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    _, notes = timers.install(["zap"], plan_only=True)
    assert any("HTTPS_PROXY has a login" in note for note in notes)
    assert "secret" not in str(notes)


def test_properties_are_read_for_each_unit() -> None:
    """The blocks of `systemctl show` are told apart by their Id. A value may contain an equals sign."""
    text = "Id=a.timer\nActiveState=active\n\nId=a.service\nResult=exit-code\nExtra=x=y\n"
    assert units.properties(text) == {
        "a.timer": {"Id": "a.timer", "ActiveState": "active"},
        "a.service": {"Id": "a.service", "Result": "exit-code", "Extra": "x=y"},
    }
    assert units.properties("") == {}


def test_times_are_read_in_utc() -> None:
    """Microseconds become times in UTC. Zero, null and the largest number mean that there is none."""
    rows = [
        {"unit": "a.timer", "next": 1795575600123456, "last": None},
        {"unit": "b.timer", "next": 2**64 - 1, "last": 0},
    ]
    assert timers.next_and_last(json.dumps(rows)) == {
        "a.timer": (datetime(2026, 11, 25, 3, 0, tzinfo=UTC), None),
        "b.timer": (None, None),
    }
    assert timers.next_and_last("") == {}


@pytest.mark.parametrize("text", ["{", "[1]", '[{"unit": "a", "next": "x"}]', '[{"next": 1}]', '{"a": 1}'])
def test_malformed_times_are_one_error(text: str) -> None:
    """Whatever list-timers prints, the error is one sentence."""
    with pytest.raises(CommandFailed, match="malformed JSON"):
        timers.next_and_last(text)


def test_a_timer_is_plain_data() -> None:
    """A timer as JSON has its unit's name, and times in ISO format."""
    timer = timers.Timer("zap", "backup", installed=True, next=datetime(2026, 11, 25, 3, 0, tzinfo=UTC))
    data = json.loads(json.dumps(timer.to_json()))
    assert (data["unit"], data["next"], data["last"]) == (
        "openclaw-backup@zap.timer",
        "2026-11-25T03:00:00+00:00",
        None,
    )


def test_without_a_user_manager_the_error_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no user manager runs, or no systemd is installed, the error is Unfit and has a hint."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    with pytest.raises(Unfit) as caught:
        timers.status(["zap"])
    assert "cron" in str(caught.value.hint)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unfit, match="systemctl is missing"):
        timers.status(["zap"])


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_a_broken_host_file_is_named(
    verb: str, dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a pattern means a host whose file is broken, the others get their timers, and the command fails with it."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "demo.yaml").write_text(text, encoding="utf-8")
    (dirs.hosts / "drone.yaml").write_text("vm: 1\n", encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    enabled = tmp_path / "systemd/user/timers.target.wants/openclaw-backup@demo.timer"
    if verb == "remove":
        enabled.parent.mkdir(parents=True)
        enabled.symlink_to("/dev/null")
    options = {"drill": False} if verb == "install" else {}
    command = getattr(commands, verb)
    assert command("d*", **options, litellm=False, drift=False, plan_only=True, as_json=False) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "drone error: " in shown
    assert "openclaw-backup@demo.timer" in shown
    with pytest.raises(InventoryError, match=r"drone\.yaml"):
        command("dr*", **options, litellm=False, drift=False, plan_only=True, as_json=False)
