"""The wait for the gateway, on a real system whose unit plays OpenClaw's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from swarm.errors import CommandFailed
from swarm.guest.engine.converge import converge
from swarm.guest.install.gateway import gateway
from swarm.inventory.inside import InstallSettings
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.guest.engine.step import Step
    from swarm.ssh.guest import Guest
    from tools.lab import Machine

pytestmark = pytest.mark.slow

HOME, PORT = "/home/waited", 18797
# As OpenClaw's unit: no restart after exit code 78, with which the gateway refuses its state.
UNIT = f"[Service]\nExecStart=/bin/sh {HOME}/gateway.sh\nRestart=always\nRestartPreventExitStatus=78\n"
REFUSES = (
    "echo it starts; echo refused by its state; for n in $(seq 20); do echo line $n; done; sleep 2; exit 78"
)
SERVES = f"mkdir -p web; touch web/readyz; exec python3 -m http.server -d web -b 127.0.0.1 {PORT}"


def ready(guest: Guest, program: str) -> Step:
    """Start a unit that runs a shell program in the account's home. Return the step that waits for it."""
    settings = InstallSettings(user="waited", port=PORT)
    folder = f"{HOME}/.config/systemd/user"
    guest.check(
        f"id waited 2>/dev/null || useradd -m waited; loginctl enable-linger waited; mkdir -p {folder}; cd {HOME}; "
        f"rm -rf starts healed; printf %s {quote(UNIT)} >{folder}/openclaw-gateway.service; "
        f"printf '%s\\n' {quote(f'cd {HOME}; echo >>starts; {program}')} >gateway.sh; chown -R waited {HOME}; "
        "until test -S /run/user/$(id -u waited)/bus; do sleep 0.1; done; "
        'runuser -u waited -- env "XDG_RUNTIME_DIR=/run/user/$(id -u waited)" sh -c '
        "'systemctl --user daemon-reload; systemctl --user reset-failed; systemctl --user restart openclaw-gateway'",
        "starting a gateway",
    )
    *_, step = gateway(settings, program=(), account=(), config=None)
    return replace(step, after=(), reacts_to=())


def test_a_gateway_that_refuses_its_state_once_is_started_again(
    machine: Machine, guest: Guest, talk: Talk
) -> None:
    """A unit that has failed for good is started once more, and the run goes on as soon as it is ready."""
    step = ready(guest, f"[ $(wc -l <starts) -gt 1 ] || {{ {REFUSES}; }}; {SERVES}")
    assert [change.subject for change in converge(guest, [step], talk)] == ["gateway ready"]
    assert machine.ssh(f"wc -l <{HOME}/starts").strip() == "2"


def test_a_gateway_that_asks_for_its_doctor_gets_it(machine: Machine, guest: Guest, talk: Talk) -> None:
    """If OpenClaw asks for its doctor, that runs without questions before the unit is started again."""
    # The real one takes seconds. Of a process that has ended, the journal may not find out whose words these were.
    refuses = "test -e healed || { echo run openclaw doctor --fix; sleep 2; exit 78; }"
    step = ready(guest, f"{refuses}; {SERVES}")
    bin_ = f"{HOME}/.local/bin"
    doctor = f'#!/bin/sh\necho "$@" >{HOME}/healed\n'
    guest.check(
        f"mkdir -p {bin_}; printf %s {quote(doctor)} >{bin_}/openclaw; chmod 755 {bin_}/openclaw", "a doctor"
    )
    assert [change.subject for change in converge(guest, [step], talk)] == ["gateway ready"]
    assert machine.ssh(f"cat {HOME}/healed; wc -l <{HOME}/starts") == "doctor --non-interactive\n2\n"


def test_a_gateway_that_fails_for_good_is_not_waited_for(machine: Machine, guest: Guest, talk: Talk) -> None:
    """If it fails again, the run ends at once, not after ten minutes, and shows why."""
    with pytest.raises(CommandFailed, match="gateway ready failed") as caught:
        converge(guest, [ready(guest, REFUSES)], talk)
    assert "refused by its state" in str(caught.value)
    assert "line 20" not in str(caught.value)
    assert machine.ssh(f"wc -l <{HOME}/starts").strip() == "2"
