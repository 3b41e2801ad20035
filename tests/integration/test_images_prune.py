"""`inv images.prune` shows what it would delete, asks, deletes it, and looks again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import images
from swarm.commands.images import prune
from swarm.errors import VerificationFailed
from swarm.images import cache
from swarm.paths import ROOT

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.fixture
def image(dirs: Dirs) -> cache.Image:  # noqa: ARG001 - leads the cache into a folder of the test
    """Give an image in the cache that no host uses."""
    path = cache.folder() / ".new"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return cache.adopt(path, "one.qcow2", "one")


def inv(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as `./inv` does, without a terminal."""
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
    return subprocess.run(
        command, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [("images.prune", "--plan"), ("images", "--prune", "--plan")])
def test_a_plan_deletes_nothing(image: cache.Image, words: tuple[str, ...]) -> None:
    """--plan shows which images would be deleted, and keeps them, also with --yes."""
    done = inv(*words, "--yes")
    assert done.returncode == 0, done.stderr
    assert "- one.qcow2 in cache: " in done.stderr
    assert image.path.exists()


def test_without_an_answer_nothing_is_deleted(image: cache.Image) -> None:
    """Where nobody can answer, the images are shown and kept."""
    done = inv("images.prune")
    assert done.returncode == 1
    assert "- one.qcow2 in cache: " in done.stderr
    assert "--yes" in done.stderr
    assert image.path.exists()


def test_yes_shows_the_images_first(image: cache.Image) -> None:
    """With --yes, the images are listed before the first one is deleted, and a second run has nothing to do."""
    done = inv("images.prune", "--yes")
    assert done.returncode == 0, done.stderr
    assert 0 <= done.stderr.find("- one.qcow2 in cache: ") < done.stderr.index("deleted one.qcow2")
    assert not image.path.exists()
    again = inv("images.prune", "--yes", "--json")
    assert json.loads(again.stdout) == {"host": "images", "changes": [], "changed": False, "removed": []}


@pytest.mark.usefixtures("image")
def test_an_image_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is still there after its deletion is reported."""
    monkeypatch.setattr(images, "remove", lambda _: None)
    with pytest.raises(
        VerificationFailed, match=r"changes are left after all steps ran: - one\.qcow2 in cache"
    ):
        prune(plan_only=False, yes=True, as_json=False)
