"""The step that ends the accounts which swarm made for an earlier `openclaw.user` of the host file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.guest.install.hardening import SUDOERS
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["former_accounts"]

_SEEDED = "openclaw"  # the account that templates/seed/user-data.j2 makes, whatever openclaw.user is
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def former_accounts(settings: InstallSettings, after: tuple[str, ...]) -> Step:
    """Return the step that ends each account of an earlier run: its login, gateway, sudo rules and Docker access.

    Its home stays. If the host file names the account again, the other steps give everything back.
    """

    def apply(fact: str) -> str | None:
        names = _names(fact)
        if wrong := [name for name in names if not _NAME.fullmatch(name)]:
            raise ValueError(wrong[0])
        return (
            "\n".join(render("guest/former-account.sh.j2", name=name, folder=SUDOERS) for name in names)
            or None
        )

    return Step(
        subject="former accounts",
        probe=f"former_accounts_fact {quote(settings.user, _SEEDED, SUDOERS)}",
        wanted="none that can log in",
        apply=apply,
        after=after,
        shown=lambda fact: ", ".join(_names(fact)) or None,
        known={"users": (_SEEDED,)},
    )


def _names(fact: str) -> list[str]:
    return list(dict.fromkeys(fact.split()))
