"""The steps for the guest's SSH server: what they ask, and what they make of the answers."""

from __future__ import annotations

import pytest

from swarm.guest.install.sshd import sshd
from swarm.guest.kinds.files import file
from swarm.templates import render
from swarm.text import quote
from tests.unit.steps import place, same, settings

BASE = ("packages: tools",)
DROP_IN = "/etc/ssh/sshd_config.d/00-swarm.conf"
STAMP = "/var/lib/swarm/loaded/sshd"


def test_the_drop_in() -> None:
    """The drop-in names the gateway's port, sorts before cloud-init's, and is checked before it is put there."""
    text = render("guest/sshd.conf.j2", port=2000)
    found = sshd(settings(port=2000), BASE)[0]
    check = f"""checked=$(mktemp)
printf '%s' {quote(text)} >"$checked"
/usr/sbin/sshd -t -f "$checked" || {{ rm -f "$checked"; exit 1; }}
rm -f "$checked\""""
    same([found], [file(DROP_IN, text, after=BASE, check=check)])
    assert "PermitOpen 127.0.0.1:2000 localhost:2000" in text.splitlines()
    assert DROP_IN < "/etc/ssh/sshd_config.d/50-cloud-init.conf"


@pytest.mark.parametrize(
    ("fact", "due"),
    [("Loaded=a\nFiles=a", False), ("Loaded=a\nFiles=b", True), ("Loaded=\nFiles=b", True), ("", True)],
)
def test_the_running_server(*, fact: str, due: bool) -> None:
    """The server reads its configuration again if it was started with another one."""
    step = sshd(settings(), BASE)[1]
    script = render("guest/sshd-reload.sh.j2", path=DROP_IN, stamp=STAMP)
    assert place(step) == ("SSH server", (), (f"file {DROP_IN}",))
    assert step.probe == f"loaded_fact {STAMP} {DROP_IN}"
    assert step.known == {"files": (DROP_IN,)}
    assert step.apply(fact) == (script if due else None)
    assert step.shown(fact) == ("with old settings" if due else None)
