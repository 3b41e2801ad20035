"""`inv pin`: pin a guest's present host key.

The key is read through the guest agent, whose channel only the hypervisor has, so that no network has to be trusted.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm import ssh
from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt
from swarm.vm.busy import busy
from swarm.vm.desired import Note
from swarm.vm.verbs import need

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.hypervisor.domain import Domain
    from swarm.inventory import Host

__all__ = ["fingerprint", "pin", "present"]

_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
_LONGEST = 1024  # bytes; such a line has about a hundred


def pin(host: Host, talk: Talk, *, yes: bool = False) -> bool:
    """Pin the guest's present host key instead of the old one. Return True if it differs. Ask first, unless `yes`.

    Raise HypervisorError if there is no VM or its agent does not answer, Refused if there is no valid key or the user
    does not agree.
    """
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        key, note = present(host, domain), domain.note()
        made = Note.from_xml(note) if note else None
        old = ssh.pinned(host.known_hosts)
        if old == key and made and made.host_key == key:
            talk.done(f"{host.name}: this key is already pinned, nothing to do")
            return False
        talk.say(f"~ host key: {fingerprint(old) if old else 'none'} → {fingerprint(key)}")
        if not yes and not talk.ask(
            f"Did you change the host key of {host.name}? Only the new key will be trusted."
        ):
            raise Refused(
                "nothing was pinned",
                "answer y, or give --yes, if you know why the key changed; otherwise find out who changed it",
            )
        if made:
            # Only the stored note: the running VM's note shows which changes wait for its next start.
            domain.write_note(replace(made, host_key=key).to_xml())
        ssh.pin(host.known_hosts, (host.name, str(host.vm.ip)), key)
        talk.done(f"{host.name}: pinned in {host.known_hosts}")
        return True


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key as ssh-keygen -l shows it, or "unreadable" if it is none."""
    try:
        digest = hashlib.sha256(base64.b64decode(key.split()[1], validate=True)).digest()
    except (IndexError, ValueError):
        return "unreadable"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def present(host: Host, domain: Domain) -> str:
    """Return the guest's public host key as `ssh-ed25519 BASE64`, as its agent reports it.

    Raise HypervisorError if the VM is stopped or its agent does not answer, Refused if there is no valid key.
    """
    if not domain.active:
        raise HypervisorError(
            f"{host.name} is stopped, so its host key cannot be read", f"./inv start --host {host.name}"
        )
    if domain.agent("guest-ping") is None:
        raise HypervisorError(
            f"the guest agent of {host.name} does not answer",
            "wait until the guest has started; the agent's package is qemu-guest-agent",
        )
    handle = domain.agent("guest-file-open", path=_FILE, mode="r")
    if handle is None:
        raise Refused(f"{host.name} has no file {_FILE}", "create the key in the guest: ssh-keygen -A")
    text = _content(domain.agent("guest-file-read", handle=handle, count=_LONGEST))
    domain.agent("guest-file-close", handle=handle)
    match = re.match(
        r"(ssh-ed25519 [A-Za-z0-9+/]{68})(\s|$)", text
    )  # 51 bytes: the type's name and the 32 of the key, with their lengths
    if not match:
        raise Refused(
            f"{host.name}: {_FILE} does not hold an ed25519 public key",
            "create it again in the guest: ssh-keygen -A",
        )
    return match[1]


def _content(answer: object) -> str:
    """Return the text in the guest agent's answer, or an empty one if that is malformed: the guest chooses it."""
    encoded = answer.get("buf-b64") if isinstance(answer, dict) else None
    try:
        return base64.b64decode(encoded if isinstance(encoded, str) else "").decode("utf-8", "replace")
    except ValueError:
        return ""
