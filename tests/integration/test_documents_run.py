"""Every command line that README.md and docs/ show is run, or typed by a named test: see shown.py."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyrage
import pytest

from swarm import ssh
from swarm.embedded import Embedded
from swarm.paths import ROOT
from swarm.vm.pin import fingerprint
from tests.conftest import Dirs
from tests.documents import DOCUMENTS, typed
from tests.fleet import network
from tests.integration.shown import ELSEWHERE, MACHINES, RUNS, SAME, VMS, Run
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 120.0  # seconds for one command
_MACHINES = {"zap": 2, "demo": 3, "claw": 4, "bee": 5, "web-1": 6}
_MACHINE = """hypervisor: {{uri: none}}
groups: {groups}
machine: {{address: 192.168.122.{last}, hostname: {name}, fingerprint: "{key}"}}
guest: {{swappiness: 7}}
openclaw: {{nodejs_source: npm, docker_source: distribution}}
"""
_INVENTORY = """all: {hosts: {old: {ansible_host: 192.168.122.77, vm_mac: '52:54:00:01:00:77', vm_memory: 2048,
  vm_vcpus: 2, vm_disk_path: /var/lib/libvirt/images/old.qcow2, vm_disk_size: 20, vm_image: ubuntu-24.04}}}
"""
_ARCHIVE = "zap-20261101t030000z.tar.zst"


class Offline(Sshd):
    """A server whose guests have no network, and in which npm does not try again for a minute."""

    def _config(self, unpacked: Path | None) -> str:
        return super()._config(unpacked) + "SetEnv npm_config_fetch_retries=0\n"


@dataclass(frozen=True)
class Project:
    """A folder to type commands in, with the variables that lead swarm's files there."""

    folder: Path
    enter: tuple[str, ...]
    variables: dict[str, str]

    def words(self, shown: str, more: tuple[str, ...]) -> list[str]:
        """Return the command line, with the names that stand for something replaced."""
        instead = {"FOLDER": "../old-folder", "FILE": _ARCHIVE, "ARCHIVE": _ARCHIVE}
        instead["NAME"] = "bee" if self.enter else "new-1"
        words = shown.replace("--identity FILE", "--identity ~/age.key").split()
        words = [instead.get(word, word).replace("~", self.variables["HOME"]) for word in words]
        words = [
            str(self.folder / Path(word).name) if word.startswith(("/srv", "/var")) else word
            for word in words
        ]
        python = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py")]
        return [*self.enter, *python, *words[: _dashes(words)], *more, *words[_dashes(words) :]]


def _dashes(words: list[str]) -> int:
    return words.index("--") if "--" in words else len(words)


@pytest.fixture(scope="module")
def machines(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Hosts that one bare sshd plays, in a network of its own."""
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch:
        dirs = Dirs.make(base / "shown-m", patch)
        project = _project(folder, patch)
        key = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
        with network() as owner, Offline(folder / "sshd", [key], within=owner, fixed="0.0.0.0") as server:  # noqa: S104
            for name, last in _MACHINES.items():
                groups = {"claw": "[cloud, home]"}.get(name, "[]")
                text = _MACHINE.format(name=name, last=last, groups=groups, key=fingerprint(server.public))
                extra = "agentmon: {url: http://192.168.122.1:8080}\n" if name == "zap" else ""
                (dirs.hosts / f"{name}.yaml").write_text(text + extra, encoding="utf-8")
                ssh.pin(dirs.hosts / f"{name}.known_hosts", [name, f"192.168.122.{last}"], server.public)
            enter = ("nsenter", f"--net=/proc/{owner}/ns/net")
            yield Project(project, enter, dict(os.environ))
            for name in _MACHINES:
                with contextlib.suppress(Exception):
                    ssh.Guest(ssh.part_path(name), name).close()


@pytest.fixture(scope="module")
def vms(base: Path, able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:  # noqa: ARG001
    """Host files of VMs of a running embedded hypervisor that has none."""
    with pytest.MonkeyPatch.context() as patch:
        dirs = Dirs.make(base / "sv", patch)
        project = _project(tmp_path_factory.mktemp("vms"), patch)
        demo = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
        zap = demo.replace("demo", "zap").replace("de:30", "de:31").replace("122.30", "122.3")
        (dirs.hosts / "demo.yaml").write_text(demo, encoding="utf-8")
        (dirs.hosts / "zap.yaml").write_text(zap, encoding="utf-8")
        (project.parent / "home/age.key").write_text(
            f"{pyrage.x25519.Identity.generate()}\n", encoding="utf-8"
        )
        made = Embedded(dirs.state)
        made.start()
        yield Project(project, (), dict(os.environ))
        made.stop()


def _project(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a folder to type in, beside an old one, and lead what belongs to a person's home there."""
    (folder / "old-folder").mkdir()
    (folder / "old-folder/inventory.yml").write_text(_INVENTORY, encoding="utf-8")
    for name in ("project", "home", "runtime"):
        (folder / name).mkdir(mode=0o700)
    for name, place in (
        ("HOME", "home"), ("XDG_CONFIG_HOME", "home/.config"), ("XDG_RUNTIME_DIR", "runtime"),
        ("SWARM_LITELLM", "litellm"),
    ):  # fmt: skip
        patch.setenv(name, str(folder / place))
    patch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    return folder / "project"


def shown() -> dict[str, list[str]]:
    """Return every command line of the documents, with the names of its documents."""
    found: dict[str, list[str]] = {}
    for path in DOCUMENTS:
        for words in typed(path.read_text(encoding="utf-8")):
            found.setdefault(" ".join(words), []).append(path.name)
    return found


def test_every_command_is_run_or_typed_by_a_test() -> None:
    """No document shows a command that is in neither table, and no table has one that no document shows."""
    known = {*RUNS, *ELSEWHERE, *SAME}
    assert not {command: where for command, where in shown().items() if command not in known}
    assert known <= shown().keys()
    assert len(known) == len(RUNS) + len(ELSEWHERE) + len(SAME)
    for command, other in SAME.items():
        assert other in RUNS
        assert [re.sub(r"--host \S+", "", each) for each in (command, other)] == [
            re.sub(r"--host \S+", "", other)
        ] * 2


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_test_elsewhere_types_it(command: str) -> None:
    """The named test exists, and its own source types the verb."""
    path, _, name = ELSEWHERE[command].partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    tests = {each.name: each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}
    source = ast.get_source_segment(text, tests[name]) or ""
    verb = command.split(maxsplit=1)[0]
    assert re.search(
        rf"(?<![\w.]){re.escape(verb)}(?![\w.])", source.partition('"""')[2].partition('"""')[2]
    ), verb


@pytest.mark.skipif(os.geteuid() != 0, reason="networks and the embedded hypervisor need root")
@pytest.mark.parametrize("command", RUNS)
def test_it_runs_as_shown(command: str, request: pytest.FixtureRequest) -> None:
    """The command ends with the documented exit code, shows what its document says, and no traceback."""
    run = RUNS[command]
    project: Project = request.getfixturevalue({MACHINES: "machines", VMS: "vms"}[run.where])
    code, text = _until(run, project, command) if run.until else _ended(run, project, command)
    assert "Traceback" not in text, text
    assert code in (run.code if isinstance(run.code, tuple) else (run.code,)), text
    assert re.search(run.shows, text), text


def _ended(run: Run, project: Project, command: str) -> tuple[int, str]:
    done = subprocess.run(
        project.words(command, run.more), cwd=project.folder, env=project.variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _until(run: Run, project: Project, command: str) -> tuple[int, str]:
    """Press Ctrl-C once the command has shown what it must."""
    with subprocess.Popen(
        project.words(command, run.more), cwd=project.folder, env=project.variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as running:  # fmt: skip
        limit = threading.Timer(_PATIENCE, running.kill)
        limit.start()
        assert running.stdout
        text = ""
        while not re.search(run.until, text):
            if not (line := running.stdout.readline()):
                break  # it has ended, and its exit code is another
            text += line
        running.send_signal(signal.SIGINT)
        text += running.stdout.read()
        limit.cancel()
        return running.wait(), text
