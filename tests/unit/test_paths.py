"""The directories on the control machine: what overrides what, and what happens without a home directory."""

from __future__ import annotations

import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.errors import Unfit
from swarm.paths import ROOT, cache_dir, config_dir, hosts_dir, state_dir

VARIABLES = ("SWARM_HOSTS", "SWARM_STATE", "SWARM_CACHE", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with none of the variables that matter."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "state", "cache"),
    [
        ({"HOME": "/home/me"}, "/home/me/.local/state/swarm", "/home/me/.cache/swarm"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}, "/s/swarm", "/c/swarm"),
        (
            {"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c", "SWARM_STATE": "/a", "SWARM_CACHE": "/b"},
            "/a",
            "/b",
        ),
        ({"HOME": "/h", "SWARM_STATE": "", "XDG_CACHE_HOME": ""}, "/h/.local/state/swarm", "/h/.cache/swarm"),
    ],
)
def test_variables_choose_the_directories(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], state: str, cache: str
) -> None:
    """The variable of swarm overrides that of XDG, which overrides HOME; an empty one counts as unset."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (state_dir(), cache_dir()) == (Path(state), Path(cache))


def test_host_files_are_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host files are in the project's own hosts/, unless SWARM_HOSTS names another directory."""
    assert hosts_dir() == ROOT / "hosts"
    monkeypatch.setenv("SWARM_HOSTS", "/elsewhere")
    assert hosts_dir() == Path("/elsewhere")


@pytest.mark.parametrize(
    ("given", "expected"), [("/etc/me", "/etc/me"), ("", "~/.config"), ("relative", "~/.config")]
)
def test_the_users_configuration(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    """Units are written below XDG_CONFIG_HOME; a relative one counts as unset."""
    monkeypatch.setenv("XDG_CONFIG_HOME", given)
    assert config_dir() == Path(expected).expanduser()


def test_the_user_database_replaces_home() -> None:
    """Without HOME, the home directory is the one in the user database."""
    assert state_dir() == Path("~/.local/state/swarm").expanduser()


PLACES = {"SWARM_STATE": state_dir, "SWARM_CACHE": cache_dir, "XDG_CONFIG_HOME": config_dir}


@pytest.mark.parametrize("variable", PLACES)
def test_no_home_directory_at_all(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A user without any home directory is told which variables to set."""

    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(Unfit, match="this user has no home directory") as caught:
        PLACES[variable]()
    assert caught.value.hint == f"set HOME, or set {variable}"


def test_platformdirs_is_imported_late() -> None:
    """Importing swarm.paths, as every command does, does not import platformdirs."""
    program = "import sys, swarm.paths; sys.exit('platformdirs' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
