"""The host key that a guest's agent reports is the guest's choice, and so is everything else that it answers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, cast

import pytest

from swarm import ssh
from swarm.errors import Refused, Unfit
from swarm.vm.pin import present
from tests import samples

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.hypervisor.domain import Domain

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx"


class Talkative:
    """A running VM whose guest agent gives this answer when a file is read."""

    active = True

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def agent(self, command: str, **_: object) -> Any:  # noqa: ANN401 - any JSON
        """Answer like a guest agent."""
        return self._answer if command == "guest-file-read" else 1


def answered(answer: object) -> str:
    """Return the key that is taken from an answer."""
    return present(samples.host(uri="test:///default"), cast("Domain", Talkative(answer)))


@pytest.mark.parametrize("text", ["", "ssh-ed25519", " \n"])
def test_a_damaged_key_is_not_pinned(text: str, tmp_path: Path) -> None:
    """What is no key, such as a damaged note of a domain, is one error, and no pin is written."""
    with pytest.raises(Unfit, match="zap: there is no valid host key to pin"):
        ssh.pin(tmp_path / "pins", ["zap"], text)
    assert not (tmp_path / "pins").exists()


def test_the_key_is_taken_without_its_comment() -> None:
    """The key is the first two words of the file."""
    text = base64.b64encode(f"{KEY} root@zap\n".encode()).decode()
    assert answered({"buf-b64": text}) == KEY


@pytest.mark.parametrize(
    "answer",
    [None, {}, [], "text", 3, {"buf-b64": None}, {"buf-b64": [1]}, {"buf-b64": "abc"}, {"buf-b64": "é"}],
)
def test_a_malformed_answer_is_no_key(answer: object) -> None:
    """Whatever else the agent answers, the user is told that there is no key, and how to make one."""
    with pytest.raises(Refused, match="does not hold an ed25519 public key") as caught:
        answered(answer)
    assert caught.value.hint == "create it again in the guest: ssh-keygen -A"
