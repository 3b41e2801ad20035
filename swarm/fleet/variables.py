"""The variables of the old Ansible folder, and where each went. docs/migration.md has this table, as a test checks.

CARRIED has the key of each variable and how its value is read. LEFT has the reason why a variable has no key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from swarm.errors import SwarmError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CARRIED", "LEFT", "SECTIONS", "Unreadable", "reason", "value"]

# Kinds: text, number, flag, texts (a list, or one text), mib (memory), gib (a disk's size), address, image.
CARRIED: dict[str, tuple[str, str]] = {
    "vm_name": ("vm.domain", "text"),
    "vm_domain": ("vm.domain", "text"),
    "vm_hostname": ("vm.hostname", "text"),
    "vm_image": ("vm.image", "image"),
    "vm_memory": ("vm.memory_mib", "mib"),
    "vm_memory_mb": ("vm.memory_mib", "mib"),
    "vm_memory_mib": ("vm.memory_mib", "mib"),
    "vm_memory_gb": ("vm.memory_mib", "gib as mib"),
    "vm_vcpus": ("vm.vcpus", "number"),
    "vm_cpus": ("vm.vcpus", "number"),
    "vm_disk_path": ("vm.disk_path", "text"),
    "vm_disk_size": ("vm.disk_size", "gib"),
    "vm_disk_size_gb": ("vm.disk_size", "gib"),
    "vm_disk_gb": ("vm.disk_size", "gib"),
    "vm_mac": ("vm.mac", "text"),
    "vm_mac_address": ("vm.mac", "text"),
    "vm_ip": ("vm.ip", "address"),
    "vm_ip_address": ("vm.ip", "address"),
    "vm_autostart": ("vm.autostart", "flag"),
    "vm_virtiofs_source": ("vm.virtiofs.source", "text"),
    "vm_virtiofs_tag": ("vm.virtiofs.tag", "text"),
    "vm_virtiofs_target": ("vm.virtiofs.target", "text"),
    "vm_network": ("hypervisor.network", "text"),
    "vm_libvirt_network": ("hypervisor.network", "text"),
    "vm_libvirt_uri": ("hypervisor.uri", "text"),
    "vm_hypervisor_uri": ("hypervisor.uri", "text"),
    "vm_swappiness": ("guest.swappiness", "number"),
    "vm_timezone": ("guest.timezone", "text"),
    "openclaw_install_mode": ("openclaw.install_mode", "text"),
    "openclaw_version": ("openclaw.version", "text"),
    "openclaw_channel": ("openclaw.channel", "text"),
    "openclaw_user": ("openclaw.user", "text"),
    "openclaw_port": ("openclaw.port", "number"),
    "openclaw_gateway_port": ("openclaw.port", "number"),
    "openclaw_ssh_keys": ("openclaw.ssh_keys", "texts"),
    "openclaw_repo_url": ("openclaw.repo_url", "text"),
    "openclaw_repo_branch": ("openclaw.repo_branch", "text"),
    "openclaw_swappiness": ("guest.swappiness", "number"),
    "openclaw_timezone": ("guest.timezone", "text"),
    "openclaw_backup_destinations": ("backup.destinations", "texts"),
    "openclaw_backup_endpoint": ("backup.endpoint", "text"),
    "openclaw_backup_keep": ("backup.keep", "number"),
    "openclaw_backup_exclude": ("backup.exclude", "texts"),
    "nodejs_version": ("openclaw.nodejs_version", "text"),
    "tailscale_enabled": ("openclaw.tailscale_enabled", "flag"),
    "agentmon_url": ("agentmon.url", "text"),
    "agentmon_vm_name": ("agentmon.vm_name", "text"),
    "ansible_host": ("vm.ip", "address"),  # only where no vm_ip is given
}

# A mapping under one of these names is read as variables that begin with it: vm: {mac: …} is vm_mac.
SECTIONS = ("vm", "vm_virtiofs", "openclaw", "openclaw_backup", "agentmon")

LEFT: dict[str, str] = {
    "ansible_user": "swarm logs in as root with a key of its own",
    "ansible_port": "swarm reaches guests at port 22",
    "ansible_connection": "swarm reaches guests by SSH",
    "ansible_ssh_private_key_file": "swarm logs in with a key of its own; put more public keys in openclaw.ssh_keys",
    "ansible_ssh_common_args": "swarm pins the host key and needs no options for SSH",
    "ansible_ssh_extra_args": "swarm pins the host key and needs no options for SSH",
    "ansible_python_interpreter": "swarm needs no Python in the guest",
    "ansible_become": "swarm logs in as root",
    "ansible_become_method": "swarm logs in as root",
    "ansible_become_user": "swarm logs in as root",
    "openclaw_home": "it follows from openclaw.user",
    "openclaw_config_dir": "it follows from openclaw.user",
    "vm_os_variant": "swarm writes the whole definition of the VM",
    "vm_uefi": "every VM has UEFI with Secure Boot",
    "vm_secure_boot": "every VM has UEFI with Secure Boot",
    "vm_tpm": "every VM has a TPM",
}

_SECRET = re.compile(
    r"(pass(word|wd|phrase)?|secret|token|auth_?key|api_?key|private_?key|credentials?)(_|$)"
)
_LOGIN = re.compile(
    r"https?://[^/\s]*@|://[^/\s@]*:[^/\s@]*@"
)  # in a URL; the user of qemu+ssh://root@box is none
_TRUE, _FALSE = (
    {"true", "yes", "on", "y", "1"},
    {"false", "no", "off", "n", "0"},
)  # those of Ansible's filter `bool`
_MIB = {"": 1, "m": 1, "mb": 1, "mib": 1, "g": 1024, "gb": 1024, "gib": 1024}


class Unreadable(SwarmError):
    """A value can't be read. The message never contains it."""


def reason(name: str) -> str | None:
    """Return why the variable `name` is not carried over whatever its value, or None if it is carried over."""
    if name in CARRIED:
        return None
    if _SECRET.search(name):
        return "it looks like a secret, which no host file holds; see docs/migration.md"
    return LEFT.get(name, "no key of a host file corresponds to it")


def value(kind: str, raw: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value for the host file. `raw` has text for every scalar. Raise Unreadable."""
    if kind == "texts":
        items = raw if isinstance(raw, list) else [raw]
        return [_text(item) for item in items]
    return _KINDS[kind](_text(raw).strip())


def _text(raw: Any) -> str:  # noqa: ANN401 - any YAML value
    if not isinstance(raw, str):
        raise Unreadable("expected one value, not a list or a mapping")
    if _LOGIN.search(raw):
        raise Unreadable("it contains a password or a token, which no host file holds")
    return raw


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Unreadable("expected a whole number")
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise Unreadable("expected yes or no")
    return text.lower() in _TRUE


def _mib(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9}) ?([A-Za-z]*)", text)
    if not match or match[2].lower() not in _MIB:
        raise Unreadable("expected memory in MiB, or with a unit, such as 4096 or 4G")
    return int(match[1]) * _MIB[match[2].lower()]


def _gib(text: str) -> str:
    match = re.fullmatch(r"([0-9]{1,7}) ?([GgTt]?)([Ii]?[Bb])?", text)
    if not match:
        raise Unreadable("expected a size in GiB, or with a unit, such as 60 or 60G")
    return f"{match[1]}{match[2].upper() or 'G'}"


def _address(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", text):
        raise Unreadable("expected an IPv4 address, not a name")
    return text


def _image(text: str) -> str:
    from swarm import images

    if text not in {entry.name for entry in images.entries()}:
        raise Unreadable("swarm's catalog has no image of this name; ./inv images lists those that it has")
    return text


_KINDS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": _number,
    "flag": _flag,
    "mib": _mib,
    "gib": _gib,
    "gib as mib": lambda text: _number(text) * 1024,
    "address": _address,
    "image": _image,
}
