"""litellm/.env: made once, completed, never overwritten."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from swarm.errors import InventoryError, Refused
from swarm.litellm import environment, secrets
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "LITELLM_DB_PASSWORD")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty litellm/."""
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    return tmp_path


def test_the_first_file_is_the_example_with_keys(folder: Path) -> None:
    """The first .env has every comment of .env.example, each secret once, and no other reader."""
    example = (ROOT / "litellm" / ".env.example").read_text()
    (folder / ".env.example").write_text(example)
    assert secrets.ensure()
    text = (folder / ".env").read_text()
    comments = [line for line in example.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == comments
    assert all(text.count(f"\n{name}=") == 1 for name in NAMES)
    values = environment.read().values
    assert len({values[name] for name in NAMES}) == 3
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert not secrets.ensure()


def test_no_message_shows_a_value(folder: Path) -> None:
    """What `ensure` reports names the variables and shows none of their values."""
    assert folder.is_dir()
    said = "\n".join(secrets.ensure())
    assert "LITELLM_SALT_KEY" in said
    assert not any(environment.read().values[name] in said for name in NAMES)


def test_what_is_there_is_kept(folder: Path) -> None:
    """Lines of the user stay as they are, without a final line end too; empty values are filled in place."""
    path = folder / ".env"
    path.write_text("# mine\nOPENAI_API_KEY='a b'\n\nLITELLM_SALT_KEY=\nLITELLM_MASTER_KEY=sk-mine")
    secrets.ensure()
    text = path.read_text()
    assert text.startswith("# mine\nOPENAI_API_KEY='a b'\n\nLITELLM_SALT_KEY=sk-")
    assert text.count("LITELLM_SALT_KEY=") == 1
    assert "\nLITELLM_MASTER_KEY=sk-mine\n" in text
    assert environment.read().values["LITELLM_DB_PASSWORD"]


def test_a_symbolic_link_stays_one(folder: Path) -> None:
    """A .env that is a link is completed where it leads."""
    (folder / "elsewhere").write_text("A=1\n")
    (folder / ".env").symlink_to("elsewhere")
    secrets.ensure()
    assert (folder / ".env").is_symlink()
    assert "LITELLM_SALT_KEY=sk-" in (folder / "elsewhere").read_text()


def test_an_existing_database_needs_its_own_key(folder: Path) -> None:
    """With a database, a missing file or secret is refused, and nothing is written; a complete file is fine."""
    with pytest.raises(Refused, match="LITELLM_SALT_KEY"):
        secrets.ensure("the volume", removal="rm it")
    assert not (folder / ".env").exists()
    (folder / ".env").write_text("LITELLM_SALT_KEY=sk-s\nLITELLM_DB_PASSWORD=\n")
    with pytest.raises(Refused, match="LITELLM_DB_PASSWORD") as caught:
        secrets.ensure("the volume", removal="rm it")
    assert "rm it" in str(caught.value)
    (folder / ".env").write_text("LITELLM_SALT_KEY=sk-s\nLITELLM_DB_PASSWORD=pw\n")
    assert secrets.ensure("the volume", removal="rm it")
    assert environment.read().values["LITELLM_SALT_KEY"] == "sk-s"


def test_a_readable_file_is_closed(folder: Path) -> None:
    """A complete file that others can read is closed to them, and that is said."""
    secrets.ensure()
    (folder / ".env").chmod(0o640)
    (said,) = secrets.ensure()
    assert "0600" in said
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600


def test_a_broken_file_is_left_alone(folder: Path) -> None:
    """A file that can't be parsed is an error that names the line, and stays as it is."""
    (folder / ".env").write_text("A=1\n'\n")
    with pytest.raises(InventoryError, match=":2:"):
        secrets.ensure()
    assert (folder / ".env").read_text() == "A=1\n'\n"


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "p#ss", "'p ss'", "pässwort", "p%ss"])
def test_a_password_that_is_no_part_of_an_address(folder: Path, password: str) -> None:
    """A new database's password is refused by its line, without its text, if it can't be in the database's address."""
    text = f"LITELLM_SALT_KEY=sk-s\nLITELLM_DB_PASSWORD={password}\n"
    (folder / ".env").write_text(text, encoding="utf-8")
    with pytest.raises(InventoryError, match=r"\.env:2: LITELLM_DB_PASSWORD can hold only letters") as caught:
        secrets.ensure()
    assert "ss" not in caught.value.message.replace("PASSWORD", "").replace(str(folder), "")
    assert (folder / ".env").read_text(encoding="utf-8") == text
    assert secrets.ensure("the volume")  # whose password it is
