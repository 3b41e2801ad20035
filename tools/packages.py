"""The distribution's packages that only tests need. `inv test` installs what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk

__all__ = ["install", "missing"]


def _compose() -> bool:
    if shutil.which("docker-compose"):
        return True
    docker = shutil.which("docker")
    return (
        bool(docker)
        and not subprocess.run(
            [str(docker), "compose", "version"], capture_output=True, check=False
        ).returncode
    )


# Package → whether its program is there, from whatever source: Docker's own packages clash with the distribution's.
_WANTED: dict[str, Callable[[], bool]] = {
    "docker.io": lambda: bool(shutil.which("dockerd")),
    "docker-compose": _compose,
    "chromium": lambda: Path("/usr/bin/chromium").exists(),
    "chromium-driver": lambda: Path("/usr/bin/chromedriver").exists(),
    "postgresql": lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
}


# Where systemd runs, installing these would start Docker, which changes the firewall and can cut off the VMs.
_STARTS = {"docker.io", "docker-compose"}
_SYSTEMD = Path("/run/systemd/system")


def missing() -> list[str]:
    """Return the packages whose programs are missing."""
    return [package for package, present in _WANTED.items() if not present()]


def install(talk: Talk) -> None:
    """Install what is missing, as root on a system with apt, but no service that changes the firewall.

    The tests that need what is left out are skipped. Raise CommandFailed with the end of apt's output.
    """
    absent = missing()
    able = os.geteuid() == 0 and shutil.which("apt-get")
    packages = [each for each in absent if able and not (each in _STARTS and _SYSTEMD.exists())]
    if skipped := [each for each in absent if each not in packages]:
        talk.warn(f"some tests are skipped, because packages are missing: {', '.join(skipped)}")
    if not packages:
        return
    listed = ", ".join(packages)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    with talk.step(f"installing packages for the tests: {listed}"):
        if _apt(command).returncode:
            _apt(["apt-get", "update"])
            done = _apt(command)
            if done.returncode:
                raise CommandFailed(f"apt-get failed: {done.stdout[-500:]}", "install them by hand")


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
