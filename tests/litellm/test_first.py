"""The first registration in a container: LiteLLM's own Python, which has only what LiteLLM needs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT
from tests.litellm.support import KEY, Ended, models_file, script_row, set_variable
from tools.litellm.parts import parts

if TYPE_CHECKING:
    from tests.litellm.conftest import Lite

MINI = "{name: mini, model: openai/gpt-5-mini, credential: Open AI/Key 1, params: {timeout: 30}}"


@pytest.fixture(autouse=True)
def _files(lite: Lite) -> None:
    set_variable(lite.folder, "OPENAI_API_KEY", KEY)
    models_file(lite.folder, lite.proxy.upstream.url, MINI)


def first(**variables: str) -> Ended:
    """Run the module as the container litellm-init does."""
    done = subprocess.run(
        [parts().venv / "bin/python", "-m", "swarm.litellm.first"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def names(lite: Lite) -> list[str]:
    """Return the names of the database's models, sorted."""
    return sorted(row.name for row in lite.client.rows() if row.from_db)


def test_first_start(lite: Lite) -> None:
    """The first start registers the models, and the next finds nothing to do."""
    assert first().code == 0
    assert names(lite) == ["mini"]
    assert first().err.strip() == "nothing to do"


def test_sentinel(lite: Lite) -> None:
    """With the old scripts' gpt-4o in the database nothing is done, and that is said; FORCE=1 runs anyway."""
    lite.post("/model/new", script_row("gpt-4o", lite.proxy.upstream.url))
    done = first()
    assert (done.code, names(lite)) == (0, ["gpt-4o"])
    assert "gpt-4o is registered already" in done.err
    assert "FORCE=1" in done.err
    assert first(FORCE="1").code == 0
    assert names(lite) == ["gpt-4o", "mini"]


def test_a_mistake_in_the_file(lite: Lite) -> None:
    """A mistake in models.yaml is one sentence with its line in the container's log, read by PyYAML there."""
    path = lite.folder / "models.yaml"
    path.write_text("models:\n  - name: a\n    model: [\n", encoding="utf-8")
    done = first()
    assert done.code == 1
    assert "models.yaml:" in done.err
    assert names(lite) == []


def test_without_a_master_key(lite: Lite) -> None:
    """Without .env and variables the container says what is missing."""
    (lite.folder / ".env").unlink()
    done = first(LITELLM_MASTER_KEY="")
    assert (done.code, "does not exist" in done.err) == (1, True)
