"""The status of all hosts in the text format of Prometheus, for the node exporter's textfile collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from swarm.fleet.status import Status

__all__ = ["metrics"]


class _Metric(NamedTuple):
    name: str
    help: str
    value: Callable[[Status], float | None]


def _if(known: object, value: float) -> float | None:
    return value if known else None


def _spool(number: int) -> Callable[[Status], float | None]:
    return lambda status: status.inside.spool[number] if status.inside.spool else None


_METRICS = (
    _Metric("swarm_host_up", "Whether the host's VM is running, or its machine answers.", lambda s: s.up),
    _Metric("swarm_ssh_ok", "Whether the guest has the pinned key and accepts the login.", lambda s: s.ssh == "ok"),
    _Metric(
        "swarm_gateway_ready",
        "Whether OpenClaw's gateway is ready.",
        lambda s: _if(s.inside.openclaw or s.inside.gateway == "ready", s.inside.gateway == "ready"),
    ),
    _Metric("swarm_disk_used_ratio", "The used share of the guest's root file system.", lambda s: s.inside.ratio),
    _Metric(
        "swarm_backup_last_success_timestamp_seconds",
        "When the last backup that succeeded ended.",
        lambda s: s.archives.succeeded or None,
    ),
    _Metric(
        "swarm_backup_failed",
        "Whether the last backup failed.",
        lambda s: _if(s.archives.result, s.archives.result == "failure"),
    ),
    _Metric(
        "swarm_backup_stored_bytes",
        "The size of the newest archive.",
        lambda s: _if(s.archives.succeeded, s.archives.stored),
    ),
    _Metric(
        "swarm_drill_last_success_timestamp_seconds",
        "When the last drill that succeeded ended.",
        lambda s: s.archives.drill_succeeded or None,
    ),
    _Metric(
        "swarm_drill_failed",
        "Whether the last drill failed.",
        lambda s: _if(s.archives.drill_result, s.archives.drill_result == "failure"),
    ),
    _Metric("swarm_drift", "Whether the VM differs from its host file.", lambda s: _if(s.drift, s.drifted)),
    _Metric("swarm_agentmon_spool_files", "How many files of agentmon events wait in the guest.", _spool(0)),
    _Metric("swarm_agentmon_spool_bytes", "The size of the agentmon events that wait in the guest.", _spool(1)),
)  # fmt: skip


def metrics(
    found: Sequence[Status], unknown: Sequence[str], now: float, *, litellm: bool | None = None
) -> str:
    """Return the metrics of hosts. `unknown` are those about which nothing could be found out: they are not up.

    `now` is in seconds since 1970. `litellm` is whether LiteLLM is ready, or None where it is not set up.
    """
    lines: list[str] = []
    for each in _METRICS:
        samples = [
            (_labels(host=status.host), value)
            for status in found
            if (value := each.value(status)) is not None
        ]
        if each.name in {"swarm_host_up", "swarm_ssh_ok"}:
            samples += [(_labels(host=name), 0) for name in unknown]
        lines += _family(each.name, each.help, samples)
    for name, text, word in (
        ("swarm_timer_installed", "Whether the timer is installed and waits for its next run.", "active"),
        ("swarm_timer_failed", "Whether the last run by the timer failed.", "failed"),
    ):
        lines += _family(name, text, list(_timers(found, word)))
    if litellm is not None:
        lines += _family("swarm_litellm_ready", "Whether LiteLLM on this machine is ready.", [("", litellm)])
    lines += _family("swarm_status_timestamp_seconds", "When these metrics were gathered.", [("", now)])
    return "\n".join(lines) + "\n"


def _timers(found: Sequence[Status], word: str) -> Iterator[tuple[str, float]]:
    for status in found:
        for each in status.timers or ():
            if each.installed or word == "active":
                yield _labels(host=status.host, timer=each.kind), getattr(each, word)


def _family(name: str, text: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    if not samples:
        return []
    rows = [f"{name}{labels} {float(value)!r}" for labels, value in samples]
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", *rows]


def _labels(**values: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
