"""A small clone for tests of ./inv. Its lock file names one tiny wheel; what ./inv starts reports how it was called."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Clone"]

ROOT = Path(__file__).parents[1]

# Stands in for swarm/__main__.py: reports what it was given.
PROBE = """
import importlib.metadata, json, os, sys
print(json.dumps({"words": sys.argv[1:], "folder": os.getcwd(), "prefix": sys.prefix, "path": sys.path,
                  "optimize": sys.flags.optimize, "tiny": importlib.metadata.version("tiny"),
                  "bytecode": not sys.dont_write_bytecode, "files": sorted(os.listdir("/proc/self/fd"))}))
"""


def make_wheel(folder: Path, version: str) -> str:
    """Write the wheel of a package called tiny, with nothing in it, and return the line that locks it."""
    path, info = folder / f"tiny-{version}-py3-none-any.whl", f"tiny-{version}.dist-info"
    files = {
        "tiny.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return f"tiny=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@dataclass(frozen=True)
class Clone:
    """A small clone, and the wheels that its lock file can name."""

    root: Path
    wheels: Path

    @classmethod
    def make(cls, folder: Path, wheels: Path) -> Clone:
        """Make a fresh clone in `folder`, with the lock file naming version 1.0."""
        (folder / "swarm").mkdir(parents=True)
        shutil.copy2(ROOT / "inv", folder)
        (folder / "swarm" / "__main__.py").write_text(PROBE, encoding="utf-8")
        clone = cls(folder, wheels)
        clone.lock("1.0")
        return clone

    def lock(self, version: str) -> None:
        """Let the lock file name this version."""
        (self.root / "requirements.lock").write_text(make_wheel(self.wheels, version), encoding="utf-8")

    def copy(self, folder: Path) -> Clone:
        """Copy the clone so that ./inv considers it set up. This is faster than a new setup."""
        shutil.copytree(self.root, folder, symlinks=True)
        state = folder / ".venv" / ".setup"
        state.write_text(
            state.read_text(encoding="utf-8").replace(str(self.root), str(folder.resolve())), encoding="utf-8"
        )
        return Clone(folder, self.wheels)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return an environment in which pip finds the wheels here, and no network."""
        given = {key: value for key, value in os.environ.items() if not key.startswith(("SWARM_", "PIP_"))}
        return {
            **given,
            "SWARM_NO_APT": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            **(more or {}),
        }

    def start(self, *words: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ./inv in a session of its own."""
        argv = [str(self.root / "inv"), *words]
        environment, pipe = self.environment(more), subprocess.PIPE
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *words: str,
        more: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        program: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ./inv, or the link to it called `program`."""
        argv = [str(program or self.root / "inv"), *words]
        return subprocess.run(
            argv,
            cwd=cwd,
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def wait_for(self, text: str, process: subprocess.Popen[str]) -> None:
        """Wait until the log of a setup that is running holds a text."""
        log = self.root / ".setup" / "log"
        while not (log.is_file() and text in log.read_text(encoding="utf-8")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
