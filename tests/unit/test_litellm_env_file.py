"""litellm/.env: what its lines mean, and how errors in them are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.errors import InventoryError, RemoteError
from swarm.litellm import client, compose, environment, secrets

if TYPE_CHECKING:
    from pathlib import Path

ENV = "LITELLM_MASTER_KEY=sk-master\nLITELLM_SALT_KEY=sk-salt\nOPENAI_API_KEY='sk-real-1'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder that swarm takes for litellm/."""
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)
    return tmp_path


def test_broken_env(folder: Path) -> None:
    """A line of .env that is no assignment is named by its number, without its text."""
    (folder / ".env").write_text('LITELLM_MASTER_KEY=a\nOPENAI_API_KEY="sk-secret-key\n', encoding="utf-8")
    with pytest.raises(InventoryError, match=r"\.env:2: expected NAME=value") as caught:
        environment.read()
    assert "sk-secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "url"),
    [
        ("", "http://127.0.0.1:18804"),
        ("LITELLM_PORT=4001", "http://127.0.0.1:4001"),
        ("LITELLM_BIND=0.0.0.0", "http://127.0.0.1:18804"),
        ("LITELLM_BIND=10.0.0.5", "http://10.0.0.5:18804"),
        ("LITELLM_BIND=fd00::5", "http://[fd00::5]:18804"),
        ("LITELLM_BIND=[fd00::5]", "http://[fd00::5]:18804"),
        ("LITELLM_BIND=::", "http://[::1]:18804"),
        ("LITELLM_URL=https://llm.example.com/", "https://llm.example.com"),
    ],
)
def test_address(folder: Path, lines: str, url: str) -> None:
    """The proxy is asked where Compose publishes it, or at LITELLM_URL."""
    (folder / ".env").write_text(ENV + lines + "\n", encoding="utf-8")
    assert environment.read().url == url


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=sk-1 # a comment", "sk-1"),
        ("K=sk-1#2", "sk-1#2"),
        ("K=#1", "#1"),
        ("export K=sk-1 # it's", "sk-1"),
        ("K = sk-1", "sk-1"),
        ("K=", ""),
        ("K=\t", ""),
        (r"K='sk # 1' # '\\'", "sk # 1"),
        (r'K="sk\t\\\"1"	# \$', 'sk\t\\"1'),
        (r"K='sk\n1'", r"sk\n1"),
        (r"K='sk\'1'", "sk'1"),
        ('K="sk\n# 1"', "sk\n# 1"),
        ("LITELLM_SALT_KEY=1\t# 2", None),
    ],
)
def test_lines_that_all_read_alike(folder: Path, line: str, value: str | None) -> None:
    """Comments, quotes and `export` mean to swarm what they mean to Docker Compose."""
    (folder / ".env").write_text(f"A=1\n{line}\nZ=1\n", encoding="utf-8-sig")
    found = environment.read()
    assert found.values.get("K") == value
    assert found.values["A"] == found.values["Z"] == "1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("K= # sk-1", "would take the comment for the value of K"),
        ("export K=\t# sk-1", "would take the comment for the value of K"),
        ("K=sk-1\t# a comment", "would take the comment for a part of K"),
        ("K=sk-1\t#a #b", "would take the comment for a part of K"),
        (r"K='sk-1\\'", "would read the backslash in K"),
        (r'K="sk-1\$"', "would read the backslash in K"),
        (r"""K="sk-1\'" """, "would read the backslash in K"),
        (r'K="sk-1\0101"', "would read the backslash in K"),
        ("'K'=sk-1", "expected NAME=value"),
        ("K:x=sk-1", "expected NAME=value"),
        ("K", "expected NAME=value"),
        ("export K # sk-1", "expected NAME=value"),
    ],
)
def test_lines_that_are_read_differently(folder: Path, line: str, message: str) -> None:
    """A line that Docker Compose reads otherwise than swarm is refused by its number, without the value."""
    (folder / ".env").write_text(f"A=1\n\n{line}\n", encoding="utf-8")
    with pytest.raises(InventoryError, match=r"\.env:3: ") as caught:
        environment.read()
    assert message in caught.value.message
    assert caught.value.hint
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-€1", "sk-ä1", '"sk-1\\nb"', '"sk-1\\ab"', "'sk-1\nb'", "' sk-1'", '"sk-1\\r"']
)
def test_a_master_key_that_no_request_can_carry(folder: Path, key: str) -> None:
    """A master key that no HTTP header can hold is named with file, line and variable, but not repeated."""
    (folder / ".env").write_text(f"OTHER=1\n\nLITELLM_MASTER_KEY={key}\n", encoding="utf-8")
    message = r"\.env:3: LITELLM_MASTER_KEY has a character that a key in an HTTP request can't have"
    with pytest.raises(InventoryError, match=message) as caught:
        client.client(environment.read())
    assert "sk-1" not in str(caught.value)
    with pytest.raises(InventoryError, match=message):
        secrets.ensure()
    assert compose.elsewhere() is None


@pytest.mark.parametrize(
    "url", ["http://me:pass€@box", "http://me:pass@box", "ftp://pass", "pass", "'http://pass a'"]
)
def test_an_address_that_can_not_be_asked(folder: Path, url: str) -> None:
    """A LITELLM_URL with credentials, which would replace the master key, or of another kind is refused by its line."""
    (folder / ".env").write_text(f"{ENV}LITELLM_URL={url}\n", encoding="utf-8")
    with pytest.raises(InventoryError, match=r"\.env:4: LITELLM_URL must start with http") as caught:
        client.client(environment.read())
    assert "pass" not in str(caught.value).replace("password", "")
    state = compose.elsewhere()
    assert state
    assert state.unready == caught.value.message


def test_a_host_that_has_no_name(folder: Path) -> None:
    """A host in LITELLM_URL whose name is too long for one is reported as an invalid URL."""
    (folder / ".env").write_text(f"{ENV}LITELLM_URL=http://{'a' * 70}.example\n", encoding="utf-8")
    with client.client(environment.read()) as session, pytest.raises(RemoteError, match="is not a valid URL"):
        session.rows()
