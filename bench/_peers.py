"""The peers that bench/configure.py measures: how they are installed, and the same twelve steps in their languages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.ours import COMMANDS, FILES, LINES, OWNER, SYSCTLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Peers"]

_SYSCTL = (
    "f=/etc/sysctl.d/99-bench-{key}.conf; grep -qx '{key} = {value}' $f && [ $(sysctl -n {key}) = {value} ] && exit 0; "
    "echo '{key} = {value}' >$f; sysctl -qp $f; echo changed"
)


class Peers:
    """ansible-core and pyinfra in a virtual environment of their own. Given the folder for all their files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = _environment(folder / "peers")
        _write_templates(folder)
        (folder / "play.yml").write_text(json.dumps(_playbook()))
        (folder / "deploy.py").write_text("\n".join(_deploy(folder)) + "\n")

    def ansible(self, config: Path, names: Sequence[str], forks: int = 8) -> tuple[list[str], dict[str, str]]:
        """Return ansible's command and environment for these hosts of an SSH configuration."""
        inventory = self._folder / "hosts.ini"
        inventory.write_text("\n".join(names) + "\n")
        options = f"-F {config} -o ControlMaster=auto -o ControlPersist=60s"
        variables = {"HOME": str(self._folder), "ANSIBLE_SSH_ARGS": options}
        program = str(self._programs / "ansible-playbook")
        return [program, "-i", str(inventory), "-f", str(forks), str(self._folder / "play.yml")], variables

    def pyinfra(
        self, config: Path, pins: Path, names: Sequence[str], parallel: int = 0
    ) -> tuple[list[str], dict[str, str]]:
        """Return pyinfra's command and environment for these hosts. It has to be given the file of host keys, too."""
        inventory = self._folder / "inventory.py"
        data = {
            "ssh_config_file": str(config),
            "ssh_known_hosts_file": str(pins),
            "ssh_strict_host_key_checking": "yes",
        }
        inventory.write_text(f"hosts = {[(name, data) for name in names]!r}\n")
        command = [str(self._programs / "pyinfra"), "-y", str(inventory), str(self._folder / "deploy.py")]
        command += ["--parallel", str(parallel)] if parallel else []
        return command, {"HOME": str(self._folder)}


def _environment(folder: Path) -> Path:
    """Make an environment with both peers, from the package index that pip uses. Return its folder of programs."""
    programs = folder / "bin"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [str(programs / "pip"), "install", "-q", "ansible-core", "pyinfra"]
    subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
    compile_all = [str(programs / "python"), "-m", "compileall", "-q", str(folder / "lib")]
    subprocess.run(compile_all, check=False, stdout=subprocess.DEVNULL)
    return programs


def _write_templates(folder: Path) -> None:
    for path, text in FILES.items():
        name = Path(path).name
        (folder / f"{name}.j2").write_text(text)
        (folder / f"{name}.pyinfra.j2").write_text(text.replace("{{ owner }}", OWNER))


def _playbook() -> list[dict[str, object]]:
    """Return the playbook as data."""
    steps = [*_files(), *_sysctls(), *_accounts(), *_commands()]
    return [{"hosts": "all", "gather_facts": False, "vars": {"owner": OWNER}, "tasks": steps}]


def _files() -> Iterator[dict[str, object]]:
    yield {"file": {"path": "/etc/bench", "state": "directory", "mode": "0755"}}
    for path in FILES:
        yield {"template": {"src": f"{Path(path).name}.j2", "dest": path, "mode": "0644"}}
    for path, (line, match) in LINES.items():
        yield {"lineinfile": {"path": path, "line": line, "regexp": match, "create": True, "mode": "0644"}}


def _sysctls() -> Iterator[dict[str, object]]:
    for key, value in SYSCTLS.items():
        script = _SYSCTL.format(key=key, value=value)
        yield {"shell": script, "register": "done", "changed_when": "'changed' in done.stdout"}


def _accounts() -> Iterator[dict[str, object]]:
    yield {"group": {"name": "benchers", "system": True}}
    yield {"user": {"name": "bench", "shell": "/bin/bash", "groups": ["benchers"], "append": True}}


def _commands() -> Iterator[dict[str, object]]:
    for path, script in COMMANDS.items():
        yield {"shell": {"cmd": script, "creates": path}}


def _deploy(folder: Path) -> list[str]:
    """Return the lines of pyinfra's deploy."""
    return [
        "from pyinfra import host",
        "from pyinfra.facts.files import File",
        "from pyinfra.operations import files, server",
        *(
            f"files.template(src={str(folder / (Path(path).name + '.pyinfra.j2'))!r}, dest={path!r}, mode='644')"
            for path in FILES
        ),
        *(
            f"files.line(path={path!r}, line={match + '.*'!r}, replace={line!r})"
            for path, (line, match) in LINES.items()
        ),
        *(
            f"server.sysctl(key={key!r}, value={value!r}, persist=True, "
            f"persist_file='/etc/sysctl.d/99-bench-{key}.conf')"
            for key, value in SYSCTLS.items()
        ),
        "server.group(group='benchers', system=True)",
        "server.user(user='bench', home='/home/bench', shell='/bin/bash', groups=['benchers'], append=True)",
        *(
            f"if not host.get_fact(File, path={path!r}):\n    server.shell(commands=[{script!r}])"
            for path, script in COMMANDS.items()
        ),
    ]
