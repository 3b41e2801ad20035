"""LiteLLM's own database cluster, made by the system's PostgreSQL. It listens on loopback and asks for a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, Unfit
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["USER", "create", "find", "url"]

USER = "litellm"  # of the cluster, and the name of the database
_PROGRAMS = Path("/usr/lib/postgresql")
_LIMIT = 300.0  # seconds to make a cluster


def find(data: Path, programs: Path = _PROGRAMS) -> Path:
    """Return the folder of the programs that fit the cluster `data`, or of the newest if it does not exist.

    Raise Unfit if they are not installed, or if this is root, as whom PostgreSQL refuses to run.
    """
    if os.geteuid() == 0:
        raise Unfit("PostgreSQL refuses to run as root", "run ./inv litellm.up --native as an ordinary user")
    found = {path.parts[-3]: path.parent for path in programs.glob("*/bin/postgres")}
    version = data / "PG_VERSION"
    if version.exists():
        needed = version.read_text(encoding="ascii").strip()
        if needed not in found:
            raise Unfit(
                f"the database in {data} needs PostgreSQL {needed}, which is not installed",
                f"sudo apt-get install postgresql-{needed}",
            )
        return found[needed]
    if not found:
        raise Unfit("PostgreSQL is not installed", "sudo apt-get install postgresql")
    return found[max(found, key=int)]


def url(password: str, port: int) -> str:
    """Return the address of the database. The password has no character that would need quoting."""
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{USER}"


def create(programs: Path, data: Path, password: str) -> None:
    """Make a cluster with an empty database. The folder appears when it is complete. Raise CommandFailed."""
    fresh = Path(tempfile.mkdtemp(prefix=".postgres-", dir=data.parent))  # only its owner can enter it
    try:
        secret = fresh / "password"
        secret.write_text(f"{password}\n", encoding="ascii")
        words = ("-D", str(fresh / "data"), "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256")
        _run([str(programs / "initdb"), *words, "-E", "UTF8", "--no-locale"])
        single = [str(programs / "postgres"), "--single", "-D", str(fresh / "data"), "postgres"]
        _run(single, f"create database {USER}\n")
        (fresh / "data").rename(data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _run(command: Sequence[str], text: str = "") -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=_LIMIT, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{name} timed out after {_LIMIT:.0f} s") from None
    # A server in single-user mode goes on after an error, and exits with 0.
    if done.returncode or "ERROR:" in done.stderr:
        raise CommandFailed(f"{name} failed: {visible(done.stderr.strip(), lines=False)[-300:]}")
