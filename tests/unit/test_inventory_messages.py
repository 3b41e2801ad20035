"""Each mistake in a host file gives an exact message with file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.errors import InventoryError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs

ZAP = (ROOT / "hosts" / "zap.yaml").read_text(encoding="utf-8")

SHORT = "see hosts/demo.yaml for a short example"


def table() -> Iterator[tuple[str, str, str, str | None]]:
    """Yield (text in zap.yaml, its replacement, message, hint) from the text files next to this module."""
    for file in sorted(Path(__file__).parent.glob("test_inventory_messages*.txt")):
        _, *blocks = file.read_text(encoding="utf-8").strip().split("\n\n")
        for block in blocks:
            edit, message, *hint = block.split("\n")
            old, _, new = edit.replace("⏎", "\n").replace("⇥", "\t").replace("␇", "\x07").partition("  →  ")
            yield old, new, message, hint[0].removeprefix("hint: ") if hint else None


EDITS = list(table())

# (content of the file, line: message, hint)
WHOLE: list[tuple[bytes, str, str | None]] = [
    (b"", "1: the file is empty", SHORT),
    (b"\xef\xbb\xbf", "1: the file is empty", SHORT),
    (b" \n\n", "1: the file is empty", SHORT),
    (b"# nothing but a comment\n", "1: expected the sections hypervisor, vm, guest and openclaw", SHORT),
    (b"- vm\n- guest\n", "1: expected the sections hypervisor, vm, guest and openclaw", SHORT),
    (b"\n\njust a sentence\n", "3: expected the sections hypervisor, vm, guest and openclaw", SHORT),
    (b"guest: {swappiness: 1}\n", "1: vm: this section is missing", SHORT),
    (
        b"vm:\n",
        "1: vm: expected a section with keys, found nothing",
        "indent its keys below it, or remove the line",
    ),
    (b"vm: true\n", "1: vm: expected a section with keys, found true", None),
    (b"# caf\xc3\xa9\nvm: caf\xe9\n", "2: not valid UTF-8", "save the file as UTF-8"),
    ("vm:\n".encode("utf-16"), "1: not valid UTF-8", "save the file as UTF-8"),
    (
        b"%YAML 2.0\n---\nvm:\n",
        "1: invalid YAML: found incompatible YAML document (version 1.* is required)",
        "check the indentation and quotes of this line and the line above",
    ),
    (
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "1: host files cannot contain anchors, such as &a",
        "remove it, or put text that starts with & in quotes",
    ),
    (b"{a: " * 9999, "1: sections are nested more than 12 levels deep", None),
    (b"#" * 300_000, " the file exceeds 256 KiB, the limit for a host file", None),
]


def failure(path: Path, content: bytes) -> tuple[str, str | None]:
    """Return the message and the hint for a host file with this content."""
    path.write_bytes(content)
    with pytest.raises(InventoryError) as caught:
        inventory.load(path.stem)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    EDITS,
    ids=[f"{number}: {edit[1]:.30}" for number, edit in enumerate(EDITS)],
)
def test_a_wrong_value_is_reported_with_its_line(
    dirs: Dirs, old: str, new: str, message: str, hint: str | None
) -> None:
    """A mistake gives one message with file, line, field and the expected value, and an optional hint."""
    assert ZAP.count(old) == 1
    path = dirs.hosts / "bee.yaml"
    assert failure(path, ZAP.replace(old, new).encode()) == (f"{path}:{message}", hint)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    WHOLE,
    ids=[f"{number}: {one[0][:20]!r}" for number, one in enumerate(WHOLE)],
)
def test_an_invalid_file_is_reported(dirs: Dirs, content: bytes, message: str, hint: str | None) -> None:
    """A file that is empty, or is not text, YAML or a mapping, gives one message."""
    path = dirs.hosts / "bee.yaml"
    assert failure(path, content) == (f"{path}:{message}", hint)


def test_all_problems_are_reported_in_the_order_of_the_file(dirs: Dirs) -> None:
    """Multiple problems are listed one per line, each with its hint."""
    path = dirs.hosts / "bee.yaml"
    text = (
        ZAP.replace("vcpus: 2", "vcpus: two")
        .replace("  hostname:", "  hostnaem:")
        .replace("swappiness: 10", "swappiness: -1")
        .replace("  network: default", "  netwerk: default")
    )
    expected = (
        f"4 problems in {path}:"
        f"\n  {path}:5: hypervisor.netwerk: unknown key (did you mean network?)"
        f"\n  {path}:8: vm.hostnaem: unknown key (did you mean hostname?)"
        f"\n  {path}:11: vm.vcpus: expected a whole number, found the text 'two'"
        f"\n  {path}:22: guest.swappiness: expected at least 0, found -1"
    )
    assert failure(path, text.encode()) == (expected, None)


def test_more_than_twenty_problems_are_counted(dirs: Dirs) -> None:
    """For a file with 25 unknown keys, 20 are listed and the rest are counted."""
    message, _ = failure(
        dirs.hosts / "bee.yaml", (ZAP + "".join(f"  key{number}: 1\n" for number in range(25))).encode()
    )
    assert message.startswith("25 problems in ")
    assert len(message.splitlines()) == 22
    assert message.endswith("\n  and 5 more")


def test_the_hint_for_an_ansible_variable_is_its_key(dirs: Dirs) -> None:
    """Each variable from Ansible's host_vars gets its new key as a hint, and is not reported as missing too."""
    old = "vm_domain: zap\nvm_memory_mib: 3072\nvm_virtiofs_source: ~/x\n"
    old += "openclaw_install_mode: release\nopenclaw_ssh_keys: []\n"
    path = dirs.hosts / "bee.yaml"
    assert failure(path, old.encode())[0].splitlines()[1:] == [
        f"  {path}:1: vm_domain: unknown key (did you mean domain in the section vm?)",
        f"  {path}:2: vm_memory_mib: unknown key (did you mean memory_mib in the section vm?)",
        f"  {path}:3: vm_virtiofs_source: unknown key (did you mean source in the section vm.virtiofs?)",
        f"  {path}:4: openclaw_install_mode: unknown key (did you mean install_mode in the section openclaw?)",
        f"  {path}:5: openclaw_ssh_keys: unknown key (did you mean ssh_keys in the section openclaw?)",
    ]


@pytest.mark.parametrize("key", ["- |\n      {}", "- '{}'", "'{}'", "{{'{}': 1}}"])
def test_a_private_key_is_never_shown(dirs: Dirs, key: str) -> None:
    """A private key among the public keys does not appear in the error."""
    secret = "-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXktdjEA"
    text = ZAP.replace("ssh_keys: []", f"ssh_keys:\n    {key.format(secret)}")
    message, hint = failure(dirs.hosts / "bee.yaml", text.encode())
    assert "b3Blb" not in message + str(hint)
