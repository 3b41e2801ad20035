"""What `inv remove` takes along that lies elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.backup.monitor import write_metrics
from swarm.backup.record import Record
from swarm.console import Talk, screen
from swarm.fleet.remove import remove
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.mark.parametrize("plan_only", [True, False])
def test_the_metrics_of_a_removed_host_go(
    dirs: Dirs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plan_only: bool,  # noqa: FBT001
) -> None:
    """The metrics of a host's backups go with it, or an alarm that it has no new ones would never end."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "demo.yaml").write_text(f"{text}\nbackup: {{metrics: {tmp_path}}}\n", encoding="utf-8")
    for host in ("demo", "other"):
        write_metrics(tmp_path, host, Record())
    assert remove("demo", Talk(screen()), plan_only=plan_only, yes=True)
    assert (tmp_path / "swarm_backup_demo.prom").exists() is plan_only
    assert (tmp_path / "swarm_backup_other.prom").exists()
    assert "metrics of the backups" in capsys.readouterr().err
