"""What the tests with a real LiteLLM share: a models.yaml, the command line, and a search for leaked keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KEY", "Ended", "inv", "models_file", "script_row", "set_variable"]

KEY = "sk-planted-0123456789-planted-zz"  # a provider's key that must never be seen


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON on stdout."""
        return json.loads(self.out)


def inv(*words: str, **variables: str) -> Ended:
    """Run a command as `./inv` does. Fail if its output shows the planted key."""
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
    done = subprocess.run(
        command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert KEY not in done.stdout + done.stderr, f"{words} shows a key"
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def models_file(folder: Path, upstream: str, *models: str, extra: str = "") -> None:
    """Write a models.yaml with one credential for `upstream`, and models as lines of YAML below `models:`."""
    credential = (
        f"credentials:\n  - name: Open AI/Key 1\n    key_env: OPENAI_API_KEY\n    api_base: {upstream}\n"
    )
    text = credential + extra + "models:\n" + "".join(f"  - {model}\n" for model in models)
    (folder / "models.yaml").write_text(
        text if models else text.replace("models:\n", "models: []\n"), encoding="utf-8"
    )


def set_variable(folder: Path, name: str, value: str) -> None:
    """Set a variable of .env."""
    path = folder / ".env"
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(f"{name}=")
    ]
    path.write_text("\n".join([*lines, f"{name}={value}", ""]), encoding="utf-8")
    path.chmod(0o600)


def script_row(name: str, upstream: str, key: str = KEY) -> dict[str, Any]:
    """Return what the scripts before swarm posted to /model/new."""
    return {
        "model_name": name,
        "litellm_params": {"model": "openai/gpt-5", "api_key": key, "api_base": upstream},
    }
