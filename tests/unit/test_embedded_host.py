"""What root makes for the embedded hypervisor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.embedded import host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """The user reaches the sockets, and nobody but root may write beside them, whatever the umask is."""
    state = tmp_path / "hypervisor"
    words = ["start", str(state), str(os.getuid()), str(os.getgid())]
    monkeypatch.setattr(sys, "argv", ["host.py", *words])
    monkeypatch.setattr(host, "_launch", lambda *_: 0)
    before = os.umask(umask)
    try:
        assert host.main() == 0
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (state, state / "run")] == [0o755, 0o755]
