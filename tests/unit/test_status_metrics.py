"""The metrics of `inv status`, as Prometheus' own parser reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from swarm.fleet.metrics import metrics
from swarm.fleet.status import Status
from tests.status_cases import HOSTILE, NOW, troubled, well

if TYPE_CHECKING:
    from collections.abc import Sequence


def parsed(
    found: Sequence[Status], unknown: Sequence[str] = (), **options: Any
) -> dict[tuple[str, ...], float]:
    """Return the value of each sample, by the metric's name and the values of its labels."""
    families = list(text_string_to_metric_families(metrics(found, unknown, NOW, **options)))
    assert all(each.documentation and each.type == "gauge" for each in families)
    assert len({each.name for each in families}) == len(families)
    return {
        (sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples
    }


def test_a_host_that_is_well() -> None:
    """Each fact is a metric in Prometheus' base units."""
    assert parsed([well()]) == {
        ("swarm_host_up", "ant"): 1,
        ("swarm_ssh_ok", "ant"): 1,
        ("swarm_gateway_ready", "ant"): 1,
        ("swarm_disk_used_ratio", "ant"): 1 / 3,
        ("swarm_backup_last_success_timestamp_seconds", "ant"): NOW - 5 * 3600,
        ("swarm_backup_failed", "ant"): 0,
        ("swarm_backup_stored_bytes", "ant"): 824_100_000,
        ("swarm_drill_last_success_timestamp_seconds", "ant"): NOW - 4 * 86400,
        ("swarm_drill_failed", "ant"): 0,
        ("swarm_drift", "ant"): 0,
        ("swarm_agentmon_spool_files", "ant"): 2,
        ("swarm_agentmon_spool_bytes", "ant"): 4096,
        ("swarm_timer_installed", "ant", "backup"): 1,
        ("swarm_timer_installed", "ant", "drill"): 0,
        ("swarm_timer_failed", "ant", "backup"): 0,
        ("swarm_status_timestamp_seconds",): NOW,
    }


def test_a_host_in_trouble() -> None:
    """What is wrong is 0 where 1 would be well, and the other way round."""
    found = parsed([troubled()], litellm=False)
    for name in ("backup_failed", "drill_failed", "drift"):
        assert found[f"swarm_{name}", "bee"] == 1
    assert found["swarm_gateway_ready", "bee"] == 0
    assert found["swarm_timer_failed", "bee", "backup"] == 1
    assert found["swarm_drill_last_success_timestamp_seconds", "bee"] == NOW - 8 * 86400
    assert found["swarm_litellm_ready",] == 0


def test_what_is_unknown_has_no_sample() -> None:
    """A value that is not known is left out. A host about which nothing is known is not up."""
    assert parsed([Status("zap", "stopped")], ["gone"]) == {
        ("swarm_host_up", "zap"): 0,
        ("swarm_host_up", "gone"): 0,
        ("swarm_ssh_ok", "zap"): 0,
        ("swarm_ssh_ok", "gone"): 0,
        ("swarm_status_timestamp_seconds",): NOW,
    }


def test_labels_are_escaped() -> None:
    """A name with quotes, backslashes and newlines comes back from the parser as it was."""
    name = f'{HOSTILE}\\n\n"end'
    assert parsed([Status(name, "running")])["swarm_host_up", name] == 1
