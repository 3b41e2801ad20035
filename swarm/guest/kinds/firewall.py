"""Steps for UFW: default policies, rules, and the firewall itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import STAMPS, fields, head
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["firewall", "firewall_default", "firewall_rule"]

_CHAINS = {"incoming": "INPUT", "outgoing": "OUTPUT", "routed": "FORWARD"}
_POLICIES = {"deny": "DROP", "allow": "ACCEPT", "reject": "REJECT"}
_NAMES = {stored: policy for policy, stored in _POLICIES.items()}


def firewall_default(direction: str, policy: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for UFW's default policy for incoming, outgoing or routed packets."""
    variable = f"DEFAULT_{_CHAINS[direction]}_POLICY"
    stored = _POLICIES[policy]
    return Step(
        subject=f"firewall default {direction}",
        probe=f"sed -n 's/^{variable}=\"*\\([A-Z]*\\)\"*/\\1/p' /etc/default/ufw\n:",
        wanted=policy,
        apply=lambda fact: None if fact == stored else f"ufw default {policy} {direction}",
        after=after,
        shown=_NAMES.get,
    )


def firewall_rule(port: int, protocol: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a UFW rule that lets in a port from everywhere, in IPv4, and in IPv6 if UFW has it on.

    A rule that limits the rate of connections stays, and one that is missing beside it limits too.
    """

    def apply(fact: str) -> str | None:
        actions = fact.split()
        if actions and "none" not in actions:
            return None
        return f"ufw {'limit' if 'limit' in actions else 'allow'} {port}/{protocol}"

    return Step(
        subject=f"firewall rule {port}/{protocol}",
        probe=f"ufw_rule_fact {port} {protocol}",
        wanted="allowed",
        apply=apply,
        after=after,
        shown=lambda fact: ", ".join(fact.split()) if {*fact.split()} - {"none"} else None,
    )


def firewall(
    config: Sequence[str], *, chains: Sequence[str], after: tuple[str, ...], reacts_to: tuple[str, ...]
) -> Step:
    """Return a step for UFW itself: it is enabled at boot, and the kernel enforces its present `config` files.

    `chains` are rules that must be in the kernel, as `iptables -S` prints them.
    """
    stamp = f"{STAMPS}/ufw"
    rules = quote("-P INPUT DROP", *chains)

    def apply(fact: str) -> str | None:
        if _found(fact) == ["enabled", "enforced", "loaded", "boot"]:
            return None
        return (
            f"ufw --force enable\nufw reload\nsystemctl enable --quiet ufw.service\nmkdir -p {STAMPS}\n"
            f"files_sum {quote(*config)} | put {quote(stamp)} 644 root root"
        )

    return Step(
        subject="firewall",
        probe=f"firewall_fact {rules}\nunit_fact ufw.service\nloaded_fact {quote(stamp, *config)}",
        wanted="enabled, enforced by the kernel",
        apply=apply,
        after=after,
        reacts_to=reacts_to,
        shown=lambda fact: ", ".join(_found(fact)),
        known={"files": tuple(config), "units": ("ufw.service",)},
    )


def _found(fact: str) -> list[str]:
    """The firewall's state, as four words."""
    now = fields(fact, "=")
    loaded = "loaded" if now.get("Loaded") == now.get("Files") else "stale"
    boot = "boot" if now.get("UnitFileState") == "enabled" else "manual"
    return [*head(fact).split(), loaded, boot]
