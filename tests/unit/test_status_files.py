"""The files that `inv status` writes: what the page says is to be done, and what is never replaced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from swarm.commands import status
from swarm.errors import UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.fixture(autouse=True)
def _demo(dirs: Dirs) -> None:
    """Write demo's host file. Its VM does not exist."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "demo.yaml").write_text(text, encoding="utf-8")


def look(html: Path) -> int:
    """Run `inv status --host demo --html FILE`, and return the exit code."""
    targets = status.Targets.of(str(html), "")
    return status.status("demo", as_json=False, watch=False, every=5, targets=targets)


def test_the_page_says_what_to_do_about_litellm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a LiteLLM that does not answer, the page does not say that all is well, and names the command to type."""
    settings = "LITELLM_URL=http://127.0.0.1:1\nLITELLM_MASTER_KEY=sk-0123456789\n"
    (tmp_path / ".env").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    assert look(tmp_path / "page.html") == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>swarm: 1 thing to do</title>" in text
    assert "<b>LiteLLM</b>: not ready (" in text
    assert "<code>./inv litellm.health</code>" in text
    assert "All is well" not in text


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    """A pipe or a device, such as /dev/null, is refused, also behind a link; a link to a file stays a link."""
    pipe, link, file = (tmp_path / name for name in ("pipe", "link", "page.html"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(UsageError, match="is not a regular file"):
            look(path)
    link.unlink()
    link.symlink_to(file)
    assert look(link) == 0
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert "All is well" in file.read_text(encoding="utf-8")


def test_one_file_is_not_both(tmp_path: Path) -> None:
    """The page and the metrics can't go to one file, also by different names of it: one would replace the other."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for other in ("file", "link"):
        with pytest.raises(UsageError, match="both name"):
            status.Targets.of(str(tmp_path / "file"), str(tmp_path / other))
