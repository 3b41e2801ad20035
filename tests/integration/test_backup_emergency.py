"""The emergency commands, run by sh with the real tools, on archives made with GNU tar, zstd and age."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from swarm.backup.emergency import emergency
from swarm.errors import UsageError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("zstd"), reason="the commands are for root, and need zstd"
)

NAME = "zap-20261125t030000z"
ODD = [b"agents/\xff\xfe", b"agents/new\nline", b"agents/back\\slash", b"agents/-rf", b"agents/my-journal"]


def pack(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Make a state directory and an archive of it. Return the archive and the files' content."""
    tree = folder / "tree"
    for name in ("agents/main", "credentials", ".swarm-archive"):
        (tree / name).mkdir(parents=True)
    for odd in (b"openclaw.json", b"credentials/token", b"agents/main/a.sqlite", *ODD):
        Path(os.fsdecode(bytes(tree) + b"/" + odd)).write_bytes(b"content of " + odd)
    (tree / "agents/main/a.sqlite").write_bytes(b"SQLite format 3\0 and its pages")
    (tree / "agents/passwd").symlink_to("/etc/passwd")
    files = {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    files.pop("agents/passwd")
    (tree / "agents/main/a.sqlite-wal").write_text("stale")
    sums = subprocess.run(["sha256sum", "--", *files], cwd=tree, capture_output=True, check=True).stdout
    (tree / ".swarm-archive/SHA256SUMS").write_bytes(sums)
    archive = folder / f"{NAME}.tar.zst"
    members = "./agents ./credentials ./openclaw.json ./.swarm-archive/SHA256SUMS"
    command = f"tar --format=posix -cf - {members} | zstd -q -o"
    subprocess.run(["sh", "-c", f'{command} "$1"', "sh", str(archive)], cwd=tree, check=True)
    summarize(archive)
    return archive, files


def summarize(archive: Path) -> None:
    """Write the summary that lies beside an archive."""
    sums = {"sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "manifest_sha256": "0" * 64}
    (archive.parent / f"{NAME}.summary.json").write_text(json.dumps({"format": 1, **sums}, indent=2) + "\n")


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the commands in `folder`, as somebody who has copied them would."""
    return subprocess.run(["sh"], input=script, cwd=folder, capture_output=True, text=True, check=False)


def content(state: Path) -> dict[str, bytes]:
    """Return the regular files of a tree."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with an old state directory, whose name needs quoting."""
    folder = tmp_path / "it's a $home"
    (folder / ".openclaw/workspace").mkdir(parents=True)
    (folder / ".openclaw/openclaw.json").write_text("old")
    (folder / ".openclaw/workspace/notes").write_text("mine")
    return folder


def test_the_commands_restore_an_archive(home: Path) -> None:
    """Files, links and modes are those of the archive, but for stale sidecars. The old directory and workspace stay."""
    archive, files = pack(home)
    state = home / ".openclaw"
    done = run(emergency(Path(archive.name), user=getpass.getuser(), state_dir=str(state)), home)
    assert done.returncode == 0, done.stderr
    assert content(state) == {**files, "workspace/notes": b"mine"}
    assert (state / "agents/passwd").readlink() == Path("/etc/passwd")
    modes = [(state / name).stat().st_mode & 0o777 for name in (".", "openclaw.json", "credentials/token")]
    assert [oct(mode) for mode in modes] == ["0o700", "0o600", "0o600"]
    (old,) = home.glob(".openclaw-replaced-by-hand-*")
    assert (old / "openclaw.json").read_text() == "old"


@pytest.mark.parametrize("summary", [True, False])
def test_a_damaged_archive_changes_nothing(home: Path, summary: bool) -> None:  # noqa: FBT001
    """A truncated archive is found by its summary, or else by the missing list of checksums."""
    archive, _ = pack(home)
    archive.write_bytes(archive.read_bytes()[:-150])
    if not summary:
        (home / f"{NAME}.summary.json").unlink()
    done = run(emergency(archive, user=getpass.getuser(), state_dir=str(home / ".openclaw")), home)
    assert done.returncode != 0
    assert ("differs from its summary" in done.stderr) == summary
    assert (home / ".openclaw/openclaw.json").read_text() == "old"


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
def test_the_commands_restore_an_encrypted_archive(home: Path) -> None:
    """An archive that swarm's library has encrypted is decrypted by the program age."""
    import pyrage

    archive, files = pack(home)
    identity = pyrage.x25519.Identity.generate()
    encrypted = archive.with_name(f"{NAME}.tar.zst.age")
    encrypted.write_bytes(pyrage.encrypt(archive.read_bytes(), [identity.to_public()]))
    archive.unlink()
    summarize(encrypted)
    (home / "key.txt").write_text(f"{identity}\n")
    done = run(emergency(encrypted, user=getpass.getuser(), state_dir=str(home / ".openclaw")), home)
    assert done.returncode == 0, done.stderr
    assert content(home / ".openclaw") == {**files, "workspace/notes": b"mine"}


def test_an_encrypted_archive_is_decrypted_first() -> None:
    """The commands for an encrypted archive name the identity that age needs."""
    script = emergency(Path(f"{NAME}.tar.zst.age"), user="openclaw", state_dir="/home/openclaw/.openclaw")
    assert 'age -d -i "$identity" "$archive" | zstd -dc | tar -xpf - -C "$fresh"\n' in script
    assert f"archive=./{NAME}.tar.zst.age\n" in script


@pytest.mark.parametrize("name", ["zap.tar.gz", f"{NAME}.manifest.json.zst", f"x/{NAME}.tar.zst.gpg"])
def test_another_file_is_an_error(name: str) -> None:
    """The commands are for archives of swarm only."""
    with pytest.raises(UsageError, match="is not the name of an archive"):
        emergency(Path(name), user="openclaw", state_dir="/home/openclaw/.openclaw")
