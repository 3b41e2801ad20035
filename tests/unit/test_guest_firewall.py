"""What a real sh finds in UFW's files and in the kernel's rules. The lines are those that UFW and iptables write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.guest.engine.script import prelude
from swarm.text import quote
from tests.model_guest import shell

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = """-P INPUT DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --rsource
-A ufw-user-input -p tcp -m tcp --dport 22 -j ufw-user-limit-accept"""
ALLOW = "-P INPUT DROP\n-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT"
RULE = "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT"


@pytest.mark.parametrize(
    ("four", "six", "ipv6", "fact"),
    [
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "allow tcp 22 ::/0 any ::/0 in", "yes", "allow allow"),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "", "no", "allow"),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "", '"yes"', "allow none"),
        (
            "limit tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=6d696e65",
            "limit any 22 ::/0 any ::/0 in",
            "YES",
            "limit limit",
        ),
        ("allow_log tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "", "no", "allow"),
        ("deny tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "", "no", "none"),
        ("allow udp 22 0.0.0.0/0 any 0.0.0.0/0 in", "", "no", "none"),
        ("allow tcp 222 0.0.0.0/0 any 0.0.0.0/0 in", "", "no", "none"),
        ("allow tcp 22 0.0.0.0/0 any 10.0.0.0/8 in", "", "no", "none"),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in_eth0", "", "no", "none"),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 OpenSSH - in", "", "no", "none"),
    ],
)
def test_rules_of_ufw(tmp_path: Path, four: str, six: str, ipv6: str, fact: str) -> None:
    """A port counts as open in each family that UFW has on, also where the user limits it, and only from everywhere."""
    files = {"user.rules": four, "user6.rules": six}
    for name, rule in files.items():
        (tmp_path / name).write_text(f"*filter\n### tuple ### {rule}\n-A some rule\n### tuple ### {rule}\n")
    (tmp_path / "default").write_text(f"# comment\nIPV6={ipv6}\nIPT_MODULES=\n")
    functions = (
        prelude().replace("/etc/default/ufw", str(tmp_path / "default")).replace("/etc/ufw", str(tmp_path))
    )
    assert shell(f"{functions}\nufw_rule_fact 22 tcp").decode().split() == fact.split()


@pytest.mark.parametrize(
    ("kernel", "state"),
    [
        (ALLOW, "enforced"),
        (LIMIT, "enforced"),
        ("-P INPUT DROP", "open"),
        (ALLOW.replace("DROP", "ACCEPT"), "open"),
    ],
)
def test_rules_of_the_kernel(tmp_path: Path, kernel: str, state: str) -> None:
    """The kernel enforces a rule that lets in, whether it limits the rate or not."""
    (tmp_path / "ufw.conf").write_text("ENABLED=yes\n")
    functions = prelude().replace("/etc/ufw", str(tmp_path))
    asked = f"iptables() {{ echo {quote(kernel)}; }}\nfirewall_fact '-P INPUT DROP' {quote(RULE)}"
    assert shell(f"{functions}\n{asked}").decode() == f"enabled {state}\n"
