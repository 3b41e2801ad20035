"""agentmon's hook: enabled, loaded by the running gateway, and delivering. Collected only if the host file has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.guest.conftest import Guest

_ENABLED = (
    "[.hooks.internal.enabled, .hooks.internal.entries.agentmon.enabled, .plugins.entries.agentmon.enabled] "
    "| all(. == true)"
)
_SETTLES = 30  # seconds until events that have just happened are delivered and the hook has written so
_LONGEST = 64 << 10  # bytes of the hook's status


@pytest.fixture
def status(guest: Guest) -> dict[str, Any]:
    """What the hook says about itself: hooks/agentmon/lib/status.ts."""
    text = guest.as_user(f"head -c {_LONGEST} ~/.openclaw/agentmon/status.json")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    assert isinstance(found, dict), "the hook's status can't be read"
    return found


def test_enabled(guest: Guest) -> None:
    """The hook and the plugin agentmon are enabled in OpenClaw."""
    assert guest.as_user(f"jq -r '{_ENABLED}' ~/.openclaw/openclaw.json") == "true"


def test_loaded(guest: Guest, status: dict[str, Any]) -> None:
    """The running gateway has loaded the hook and the plugin agentmon."""
    unit = guest.as_user("systemctl --user show -p MainPID --value openclaw-gateway.service")
    assert str(status.get("pid")) == unit, "the running gateway has not called the hook"
    halves = status.get("halves")
    missing = [half for half in ("hook", "plugin") if not isinstance(halves, dict) or not halves.get(half)]
    assert not missing, f"the gateway has not called the {' and the '.join(missing)}"


def test_delivered(status: dict[str, Any]) -> None:
    """Events of each family that occurred have reached the endpoint."""
    families = status.get("families")
    assert isinstance(families, dict), "the hook's status names no events"
    assert "gateway" in families, "no event of the gateway occurred"
    waiting = [
        name
        for name, times in families.items()
        if not isinstance(times, dict) or (times.get("happened") and not times.get("delivered"))
    ]
    assert not waiting, (
        f"never delivered: {', '.join(waiting)}; {status.get('trouble') or 'no problem noted'}"
    )


def test_spool(guest: Guest, status: dict[str, Any]) -> None:
    """No event waits in the spool, and none was refused or lost."""
    wait = (
        f'cd ~/.openclaw/agentmon; for i in $(seq {_SETTLES}); do set -- *.log; [ -e "$1" ] || break; sleep 1; done\n'
        'set -- *.log; [ ! -e "$1" ] || cat -- *.log | wc -l'
    )
    waiting = guest.as_user(wait)
    why = status.get("trouble")
    assert not waiting, f"{waiting} events wait" + (f"; the endpoint: {why}" if why else "")
    lost = [f"{name} {status.get(name)}" for name in ("refused", "dropped", "corrupt") if status.get(name)]
    assert not lost, f"events of this start of the gateway: {', '.join(lost)}"
