"""The scripts that copy a file, run here by a shell in place of ssh."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from swarm.ssh.copy import download, upload

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.ssh.link import Link


class Here:
    """A link to this machine."""

    alias, root = "here", False

    def command(self) -> list[str]:
        """Return a command that runs its third argument."""
        return ["sh", "-c", 'eval "$2"']


@pytest.mark.parametrize("name", ["@NAME@", "@SUM@ @MODE@", "@MARK@", "a@b@", "\\1 \\g<0>"])
def test_names_that_look_like_placeholders(tmp_path: Path, name: str) -> None:
    """A path of the guest is taken literally, also if it looks like a placeholder of the script."""
    link, planted = cast("Link", Here()), "x;touch planted;"
    source, folder = tmp_path / planted, tmp_path / name
    source.write_bytes(b"content")
    folder.mkdir()
    target = folder / name
    upload(link, source, str(target))
    download(link, str(target), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    assert {each.name for each in tmp_path.iterdir()} == {planted, name, "back"}
    assert [each.name for each in folder.iterdir()] == [name]
