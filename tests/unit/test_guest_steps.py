"""What is easy to get wrong in steps, one promise each. Their whole behavior is in test_guest_kinds, in text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.guest.engine.script import prelude
from swarm.guest.install.openclaw import RECORD, release, unknown_here
from swarm.guest.kinds.accounts import authorized_keys
from swarm.guest.kinds.edits import line, with_block, without_blocks
from swarm.guest.kinds.files import file
from swarm.guest.kinds.keyrings import fingerprints
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.npm import in_range
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.units import unit
from swarm.inventory.inside import InstallSettings
from swarm.paths import ROOT

TEXT = st.text(st.characters(codec="utf-8"), max_size=80)


@given(TEXT, TEXT)
def test_block_is_idempotent(content: str, text: str) -> None:
    """A block is not added a second time, and the lines around it stay unchanged."""
    once = with_block(content, "own", text)
    assert with_block(once, "own", text) == once
    assert once.startswith(content)


@given(TEXT, TEXT, TEXT)
def test_blocks_are_removed(before: str, text: str, after: str) -> None:
    """All blocks of a name are removed, and what is around them stays."""
    one = with_block("", "own", text)
    content = f"{before}\n{one}{after}\n{one}"
    assert without_blocks(content, "own") == f"{before}\n{after}\n"
    assert without_blocks(content, "other") == content


def test_block_whose_end_is_gone() -> None:
    """Where the end of a block was removed, the lines of others after its beginning survive every later run."""
    broken = "# BEGIN swarm own\nold\ntheirs\n"
    once = with_block(broken, "own", "new")
    assert once.startswith(broken)
    assert with_block(once, "own", "new") == once
    assert without_blocks(once, "own") == broken
    step = authorized_keys("root", "/root", ["ssh-ed25519 AAAAone"])
    access = "file 600 root root none\n"
    lines = "# BEGIN swarm keys\nssh-ed25519 AAAAtheirs\n"
    kept = f"{lines}# BEGIN swarm keys\nssh-ed25519 AAAAone\n# END swarm keys\n"
    assert f"'{kept}'" in (step.apply(access + lines) or "")
    assert step.apply(access + kept) is None


@pytest.mark.parametrize(
    "content",
    [
        "# BEGIN swarm own\n" * 50_000,
        "x# BEGIN swarm own\n# END swarm own\n",
        "# END swarm own\n",
        "# BEGIN swarm owner\nx\n# END swarm owner\n",
    ],
)
def test_marks_that_are_no_block(content: str) -> None:
    """Marks without their counterpart, or in the middle of a line, are no block. Many of them take no time."""
    assert without_blocks(content, "own") == content
    assert with_block(content, "own", "x").startswith(content)


def test_block_is_replaced() -> None:
    """A block with another text is replaced where it stands."""
    content = "before\n# BEGIN swarm own\nold\n# END swarm own\nafter\n"
    assert with_block(content, "own", "new") == "before\n# BEGIN swarm own\nnew\n# END swarm own\nafter\n"
    assert with_block("x\n", "own", "new", top=True) == "# BEGIN swarm own\nnew\n# END swarm own\nx\n"


@pytest.mark.parametrize(
    ("content", "due"),
    [
        ("", True),
        ("color = blue\n", False),
        ("color = red\nsize = 1\n", True),
        ("a\ncolor = blue\nb\n", False),
        ("color = blue\ncolor = red\n", True),
    ],
)
def test_line(content: str, due: bool) -> None:  # noqa: FBT001 - a column of the table
    """A line is changed if it is missing, different, or contradicted by a later one."""
    fact = f"file 644 root root 0\n{content}" if content else "absent\n"
    assert (line("/etc/x", "color = blue", r"^color\b").apply(fact) is not None) is due


@pytest.mark.parametrize(
    ("fact", "due"),
    [
        ("file 644 root root {sum}", False),
        ("file 600 root root {sum}", True),
        ("file 644 zed root {sum}", True),
        ("file 644 root root 00\nother text", True),
        ("absent", True),
        ("other 777 root root symbolic link", True),
    ],
)
def test_file(fact: str, due: bool) -> None:  # noqa: FBT001 - a column of the table
    """A file is written if its content, mode, owner or group differs, or if it is no regular file."""
    wanted = file("/etc/x", "hello\n")
    total = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # sha256 of "hello\n"
    assert (wanted.apply(fact.format(sum=total)) is not None) is due


def test_file_that_shows_no_difference() -> None:
    """If only the mode differs, there is no diff."""
    wanted = file("/etc/x", "hello\n")
    assert (
        wanted.diff("file 600 root root 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
        is None
    )
    assert "-old" in (wanted.diff("file 644 root root 0\nold") or "")


@pytest.mark.parametrize(
    ("fact", "needed"),
    [
        ("installed a 1\ninstalled b 1", None),
        ("installed a 1\nlists\ncandidate b 2", "b"),
        ("lists\ncandidate c 2", "a"),
        ("installed a 1\ninstalled c 1", None),  # c is the alternative to b
        ("installed a 1\nlists\ncandidate c 1", "c"),
    ],
)
def test_packages(fact: str, needed: str | None) -> None:
    """Missing packages are installed: of alternatives the first that apt offers, of optional ones what it offers."""
    script = packages("some", ("a", "b|c", "d|"), from_repository=True).apply(fact)
    assert script is None if needed is None else needed in (script or "").splitlines()[-1].split()


def test_package_that_apt_does_not_have() -> None:
    """A package without a candidate is a reason to refuse, unless apt's lists are missing or old."""
    wanted = packages("some", ("a", "b"))
    assert wanted.refuse("installed a 1\nlists") == "the guest's package sources have no package b"
    assert wanted.refuse("installed a 1") is None


@pytest.mark.parametrize(
    ("version", "fact", "due"),
    [
        ("24.x", "24.21.0", False),
        ("24.x", "24.15.9", True),
        ("24.x", "26.1.0", True),
        ("24.x", "", True),
        ("24.17.0", "24.17.0", False),
        ("24.17.0", "24.18.0", True),
        ("latest", "9.0.0", False),
    ],
)
def test_versions_of_node(version: str, fact: str, due: bool) -> None:  # noqa: FBT001 - a column of the table
    """An exact version must match. A release line must match and not be too old. Any version satisfies 'latest'."""
    lowest = "24.16" if version.startswith("24") else "0"
    assert in_range(fact, version, lowest) is not due


@pytest.mark.parametrize(
    ("npm", "refused"),
    [
        ('echo \'"version": "1.2.3"\'', False),
        ("echo npm error code E404 >&2; exit 1", True),
        ("echo npm error network >&2; exit 1", False),
        (None, False),
    ],
)
def test_release_that_this_computer_can_ask_for(
    npm: str | None,
    refused: bool,  # noqa: FBT001 - a column of the table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the guest has no npm, the local one asks npm's default registry. Only a clear no is a reason to refuse."""
    for name in ("sh", "sed", "mktemp", "rm", "grep", "tail", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    if npm:
        (tmp_path / "npm").write_text(f'#!/bin/sh\n[ -z "${{npm_config_registry-}}" ] || exit 9\n{npm}\n')
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    unknown_here.cache_clear()
    wanted = release(InstallSettings(version="1.2.3"), (), upgrade=False)
    assert (wanted.refuse("") is not None) is refused
    assert wanted.refuse("version 1.2.3\npinned") is None
    unknown_here.cache_clear()


@pytest.mark.parametrize(
    ("settings", "fact", "due"),
    [
        ({}, "", True),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", False),
        ({"channel": "beta"}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", True),
        ({"version": "2026.9.6"}, "version 2026.9.6\nchannel latest\nintegrity sha512-a", False),
        ({"version": "2026.9.7"}, "version 2026.9.6\npinned\nintegrity sha512-a", True),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a\noffered 2026.9.7 sha512-b", True),
        ({}, "version 2026.9.6\nchannel latest\nintegrity sha512-a\noffered 2026.9.6 sha512-a", False),
    ],
)
def testrelease(settings: dict[str, str], fact: str, due: bool) -> None:  # noqa: FBT001 - a column of the table
    """A channel is resolved once and recorded. An upgrade, another channel or another pin resolves it again."""
    wanted = release(InstallSettings.model_validate(settings), (), upgrade=True)
    script = wanted.apply(fact)
    assert (script is not None) is due
    assert script is None or RECORD in script


@pytest.mark.parametrize(
    ("now", "verbs"),
    [
        (
            "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nNeedDaemonReload=no\nLoaded=1\nFiles=1",
            [],
        ),
        (
            "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nNeedDaemonReload=no\nLoaded=1\nFiles=2",
            ["daemon-reload", "restart"],
        ),
        (
            "LoadState=loaded\nUnitFileState=disabled\nActiveState=inactive\nNeedDaemonReload=no\nLoaded=1\nFiles=1",
            ["enable", "start"],
        ),
        (
            "LoadState=not-found\nUnitFileState=\nActiveState=inactive\nNeedDaemonReload=no\nLoaded=\nFiles=2",
            ["daemon-reload", "enable", "start"],
        ),
    ],
)
def test_unit(now: str, verbs: list[str]) -> None:
    """A unit gets only the verbs that it needs."""
    script = unit("x.service", config=("/etc/x",)).apply(now) or ""
    assert [
        verb for verb in ("daemon-reload", "enable", "start", "restart") if f"systemctl {verb}" in script
    ] == verbs


def test_mount_line() -> None:
    """A line of fstab for the same folder is replaced. Comments and other lines stay. Blanks are written in octal."""
    entry, now = mount("swarm", "/mnt/my swarm", "virtiofs", "defaults,nofail")
    old = "# mine\nUUID=1 / ext4 defaults 0 1\nother /mnt/my\\040swarm 9p defaults 0 0\n"
    script = entry.apply(f"file 644 root root 0\n{old}") or ""
    assert "swarm /mnt/my\\040swarm virtiofs defaults,nofail 0 0" in script
    assert "9p" not in script
    assert "# mine" in script
    assert now.apply("swarm virtiofs") is None


def test_keys_outside_the_block() -> None:
    """Keys that the account has already are not listed twice, and other keys stay."""
    key = "ssh-ed25519 AAAAfirst me"
    script = (
        authorized_keys("zed", "/home/zed", [key]).apply(
            f"file 600 zed zed 0\n{key}\nssh-ed25519 AAAAother you\n"
        )
        or ""
    )
    assert script.count("AAAAfirst") == 1
    assert script.count("AAAAother") == 1


def test_fingerprints() -> None:
    """Data that is not a key has no fingerprint."""
    assert fingerprints(b"") == set()
    assert (
        fingerprints(
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnonsense\n-----END PGP PUBLIC KEY BLOCK-----\n"
        )
        == set()
    )


PRELUDE = sorted((ROOT / "templates/guest/prelude").iterdir())


def test_every_file_of_the_prelude_is_sent() -> None:
    """Every function of every file in the folder is part of what guests get."""
    functions = [
        line for path in PRELUDE for line in path.read_text(encoding="utf-8").splitlines() if "() {" in line
    ]
    assert functions
    assert set(functions) <= set(prelude().splitlines())


def test_prelude_is_clean() -> None:
    """ShellCheck finds nothing in the shell functions that every script begins with."""
    program = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [program, "-s", "sh", "-"],
        input="".join(path.read_text(encoding="utf-8") for path in PRELUDE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
