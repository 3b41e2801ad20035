"""What is sent to LiteLLM, and what becomes of requests that it answers with 200 and does not carry out.

tests/litellm does the same with a real LiteLLM.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from swarm.console import Talk, screen
from swarm.errors import VerificationFailed
from swarm.litellm import apply
from swarm.litellm.client import Client, Credential, Row
from swarm.litellm.identity import DEFAULTS, MARK
from tests.unit.litellm_rows import deployment, registered, row, wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


pytestmark = pytest.mark.usefixtures("dirs")
MODEL = deployment("gpt", "ollama/gpt", credential=None)


class Proxy(Client):
    """A proxy with these rows. It loses the first additions: it answers 200, and saves nothing."""

    def __init__(self, *rows: Row, loses: int) -> None:
        super().__init__("http://127.0.0.1:1", "sk-unused")
        self.kept, self.loses = {each.id: each for each in rows}, loses
        self.keys: dict[str, Credential] = {}

    def credentials(self) -> list[Any]:
        """Return the credentials."""
        return list(self.keys.values())

    def delete_credential(self, name: str) -> bool:
        """Delete a credential."""
        return bool(self.keys.pop(name))

    def rows(self, keys: Collection[str] = ()) -> list[Row]:  # noqa: ARG002 - the real one's parameters
        """Return the rows."""
        return list(self.kept.values())

    def exists(self, row_id: str) -> bool:
        """Return whether the row is there."""
        return row_id in self.kept

    def masks(self, row_id: str) -> Mapping[str, Any]:  # noqa: ARG002 - as above
        """Return no secrets."""
        return {}

    def add_model(
        self, name: str, params: Mapping[str, Any], info: Mapping[str, Any], *, blocked: bool = False
    ) -> None:
        """Save a row, or lose it."""
        if self.loses:
            self.loses -= 1
            return
        found = {**info, "db_model": True, "blocked": blocked}
        self.kept[info["id"]] = Row(info["id"], name, {**DEFAULTS, **params}, found, from_db=True)

    def delete_model(self, row_id: str) -> bool:
        """Delete a row."""
        return self.kept.pop(row_id, None) is not None


def bring(proxy: Proxy) -> None:
    """Bring the proxy to the one wanted model."""
    apply.bring(proxy, wanted(MODEL, credentials=[]), Talk(screen(), quiet=True))


def test_a_replacement_that_is_lost() -> None:
    """A row is deleted only once its replacement is there: if LiteLLM never saves that, the old one still serves."""
    proxy = Proxy(row("gpt", "ollama/gpt"), loses=2)
    with pytest.raises(VerificationFailed, match="did not save"):
        bring(proxy)
    assert list(proxy.kept) == ["old"]


def test_what_is_not_saved_names_a_command_that_works() -> None:
    """`litellm.doctor`, which the hint names, needs a model: it is the one that was not saved."""
    with pytest.raises(VerificationFailed) as caught:
        bring(Proxy(loses=2))
    assert "./inv litellm.doctor gpt shows" in str(caught.value.hint)


def test_a_replacement_that_is_lost_once() -> None:
    """A replacement that LiteLLM loses is sent once more, and then takes the old row's place."""
    proxy = Proxy(row("gpt", "ollama/gpt"), loses=1)
    bring(proxy)
    assert list(proxy.kept) == [MODEL.id]


def pruned(loses: int) -> tuple[Proxy, list[str]]:
    """Prune a credential whose only model moves to another provider. Return the proxy and the plan that was shown."""
    proxy, shown = Proxy(registered(deployment()), loses=loses), list[str]()
    proxy.keys = {"openai": Credential("openai", {}, {MARK: ""})}
    with contextlib.suppress(VerificationFailed):
        apply.bring(
            proxy, wanted(MODEL, credentials=[]), Talk(screen(), quiet=True), prune=True,
            confirm=lambda plan: shown.extend(change.line()[:21] for change in plan),
        )  # fmt: skip
    return proxy, shown


@pytest.mark.parametrize("loses", [0, 1])
def test_a_plan_shows_each_deletion(loses: int) -> None:
    """A credential that nothing uses once a model is replaced is part of the plan that a person agrees to."""
    proxy, shown = pruned(loses)
    assert shown == ["± model gpt: openai/g", "- credential openai ("]
    assert (list(proxy.kept), proxy.keys) == ([MODEL.id], {})


def test_a_used_credential_stays() -> None:
    """If LiteLLM never saves the replacement, the old model still serves, and so its credential stays."""
    proxy, _ = pruned(loses=2)
    assert ([each.credential for each in proxy.rows()], list(proxy.keys)) == (["openai"], ["openai"])


def test_a_block_outlasts_a_lost_replacement() -> None:
    """A blocked model whose replacement is lost is still blocked when it is sent once more."""
    ours = registered(MODEL, blocked=True)
    proxy = Proxy(replace(ours, params={**ours.params, "rpm": 5}), loses=1)
    bring(proxy)
    assert [(each.params.get("rpm"), each.blocked) for each in proxy.rows()] == [(None, True)]
