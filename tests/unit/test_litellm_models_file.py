"""models.yaml: what it may say, and how errors in it are reported."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from swarm.errors import InventoryError, SwarmError, Unfit, UsageError
from swarm.litellm import edit, environment, wanted
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
# my keys
credentials:
  - name: openai
    key_env: OPENAI_API_KEY  # the work account
models:
  # the cheap one
  - name: mini
    model: openai/gpt-5-mini
    credential: openai
"""
ENV = "LITELLM_MASTER_KEY=sk-master\nLITELLM_SALT_KEY=sk-salt\nOPENAI_API_KEY='sk-real-1'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a litellm folder with a models.yaml and a .env."""
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)
    (tmp_path / "models.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / ".env").write_text(ENV, encoding="utf-8")
    return tmp_path


def problem(folder: Path, text: str) -> str:
    """Return the error for this models.yaml, without the folder's name."""
    (folder / "models.yaml").write_text(dedent(text), encoding="utf-8")
    with pytest.raises(SwarmError) as caught:
        wanted.resolve(wanted.load(), environment.read())
    return str(caught.value).replace(f"{folder}/", "")


def test_the_file_of_the_repository() -> None:
    """The models.yaml that everybody starts with is valid, and needs no key to be loaded."""
    file = wanted.load(ROOT / "litellm" / "models.yaml")
    assert all(each.optional for each in file.credentials)
    providers = {each.model.split("/")[0] for each in file.models}
    assert providers == {"anthropic", "openai", "gemini", "zai", "github_copilot"}


def test_values_come_from_env(folder: Path) -> None:
    """A credential's value is read from litellm/.env, and a model carries only the credential's name."""
    assert folder.is_dir()
    found = wanted.resolve(wanted.load(), environment.read())
    assert found.credentials[0].values == {"api_key": "sk-real-1"}
    assert found.deployments[0].params == {"model": "openai/gpt-5-mini", "litellm_credential_name": "openai"}


def test_secrets_have_no_repr(folder: Path) -> None:
    """Neither the variables nor a credential shows a secret when it is printed."""
    assert folder.is_dir()
    found = environment.read()
    assert "sk-" not in f"{found!r} {wanted.resolve(wanted.load(), found)!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "credentials: [{name: a, key_env: NOPE}]",
            "models.yaml:1: credentials[1].key_env: NOPE is not set in",
        ),
        (
            "credentials: [{name: a, key_env: sk-secret-key}]",
            "models.yaml:1: credentials[1].key_env: expected the name of a variable",
        ),
        (
            "credentials: [{name: a}]",
            "models.yaml:1: credentials[1]: no variable is named that holds the key",
        ),
        (
            "credentials: [{name: a, key_env: A, api_base: ''}]",
            "models.yaml:1: credentials[1].api_base: expected a URL that starts with http",
        ),
        (
            "credentials: [{name: a, key_env: A}, {name: a, key_env: B}]",
            "models.yaml:1: credentials[2].name: 'a' is the name of two credentials",
        ),
        ("models: [{name: m, model: gpt-5}]", "models.yaml:1: models[1].model: expected PROVIDER/MODEL"),
        ("models: [{name: m, model: openai/x}]", "models.yaml:1: models[1]: openai needs a credential"),
        (
            "models: [{name: m, model: openai/x, credential: nope}]",
            "models.yaml:1: models[1].credential: there is no credential 'nope'",
        ),
        (
            "models: [{name: m, model: ollama/x}, {name: m, model: ollama/x, params: {rpm: 5}}]",
            "models.yaml:1: models[2]: the same deployment as models[1]",
        ),
        (
            "models: [{name: m, model: ollama/x, params: {api_key: sk-secret-key}}]",
            "models.yaml:1: models[1].params: api_key is a secret",
        ),
        (
            "models: [{name: m, model: ollama/x, params: {organization: os.environ/ORG}}]",
            "models.yaml:1: models[1].params: organization refers to a variable of the proxy",
        ),
        (
            "models: [{name: m, model: ollama/x, params: {api_base: ''}}]",
            "models.yaml:1: models[1].params: api_base has no value",
        ),
        (
            "models: [{name: m, model: ollama/x, params: {api_base: 'localhost:11434'}}]",
            "models.yaml:1: models[1].params: expected a URL that starts with http",
        ),
        (
            "models: [{name: m, model: ollama/x, params: {base_url: 'http://me:secret@box'}}]",
            "models.yaml:1: models[1].params: expected a URL that starts with http:// or https://, without credentials",
        ),
        (
            "models: [{name: m, model: ollama/x, info: {id: 7}}]",
            "models.yaml:1: models[1].info: id is set by swarm",
        ),
        ("models: [{name: m, modle: ollama/x}]", "did you mean model?"),
        ("modells: []", "models.yaml:1: modells: unknown key\n  hint: did you mean models?"),
        ("- a", "models.yaml:1: expected the lists credentials and models"),
        ("", "models.yaml:1: the file is empty"),
        ("models: {a: 1}", "models.yaml:1: models: expected a list, found a section"),
        ("models: [*a]", "models.yaml:1: models files cannot contain aliases"),
    ],
)
def test_errors_name_line_and_field(folder: Path, text: str, message: str) -> None:
    """Each mistake is reported with file, line and field, and no secret is repeated."""
    found = problem(folder, text)
    assert message in found
    assert "sk-secret-key" not in found


def test_optional_credentials_are_skipped(folder: Path) -> None:
    """An optional credential without its variable is skipped with its models."""
    text = GOOD.replace("OPENAI_API_KEY", "NOPE_KEY").replace(
        "    key_env", "    optional: true\n    key_env"
    )
    (folder / "models.yaml").write_text(text, encoding="utf-8")
    found = wanted.resolve(wanted.load(), environment.read())
    assert (found.credentials, found.deployments) == ((), ())
    assert found.skipped == {"openai": "NOPE_KEY is not set"}


def test_missing_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without .env the command that makes it is named; a container's variables take its place."""
    (folder / ".env").unlink()
    with pytest.raises(Unfit, match=r"\.env does not exist\n  hint: \./inv litellm\.up makes it"):
        environment.read()
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-container")
    assert environment.read().master_key == "sk-container"
    (folder / "models.yaml").unlink()
    with pytest.raises(InventoryError, match=r"models\.yaml does not exist"):
        wanted.load()


# ── editing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_add_keeps_comments(folder: Path) -> None:
    """A new model is added to the end, and every other byte of the file stays."""
    assert edit.add("nano", "openai/gpt-5-nano", "OPENAI_API_KEY")
    text = (folder / "models.yaml").read_text(encoding="utf-8")
    assert text == GOOD + "  - name: nano\n    model: openai/gpt-5-nano\n    credential: openai\n"
    assert not edit.add("nano", "openai/gpt-5-nano", "OPENAI_API_KEY")


def test_add_makes_a_credential(folder: Path) -> None:
    """A variable that no credential names gets one, called after the provider."""
    assert folder.is_dir()
    edit.add("glm", "zai/glm-5.3", "ZAI_API_KEY", "https://api.z.ai/v4")
    edit.add("other", "openai/gpt-5", "OTHER_KEY")
    names = [(each.name, each.key_env, each.api_base) for each in wanted.load().credentials]
    assert names[1:] == [("zai", "ZAI_API_KEY", "https://api.z.ai/v4"), ("openai-2", "OTHER_KEY", None)]


def test_add_with_an_address_of_its_own(folder: Path) -> None:
    """The address of a model without a key, or of one that uses another address than its credential, is kept."""
    assert folder.is_dir()
    for variable, credential in (("", ""), ("", "openai"), ("OPENAI_API_KEY", "openai")):
        words = (f"local{variable}", "ollama/llama3", variable, "http://10.0.0.5:11434", credential)
        assert edit.add(*words)
        assert not edit.add(*words)
        assert wanted.load().models[-1].params == {"api_base": "http://10.0.0.5:11434"}


@pytest.mark.parametrize("arguments", [("x", "nonsense"), ("x", "openai/gpt-5"), (" ", "ollama/x")])
def test_bad_additions_change_nothing(folder: Path, arguments: tuple[str, str]) -> None:
    """An addition that would make the file invalid leaves it as it was."""
    with pytest.raises(InventoryError, match=r"models\.yaml is unchanged: "):
        edit.add(*arguments)
    assert (folder / "models.yaml").read_text(encoding="utf-8") == GOOD


def test_unknown_credential(folder: Path) -> None:
    """A credential that the file lacks is refused, and the known ones are named."""
    assert folder.is_dir()
    with pytest.raises(UsageError, match="hint: it has: openai"):
        edit.add("x", "openai/gpt-5", credential="nope")


def test_a_variable_that_the_credential_does_not_use(folder: Path) -> None:
    """An addition with a credential and another variable is refused: one of the two keys would be left out."""
    with pytest.raises(UsageError, match="does not fit the credential 'openai', which uses OPENAI_API_KEY"):
        edit.add("x", "openai/gpt-5", "OTHER_KEY", credential="openai")
    assert (folder / "models.yaml").read_text(encoding="utf-8") == GOOD


def test_an_address_with_an_at_sign(folder: Path) -> None:
    """The path of an address may hold an @, which is no login there."""
    assert folder.is_dir()
    assert edit.add("x", "ollama/x", "", "https://box/run/@cf/meta")
    assert wanted.load().models[-1].params == {"api_base": "https://box/run/@cf/meta"}


def test_remove(folder: Path) -> None:
    """All deployments of a name are removed; a name that is not there changes nothing."""
    edit.add("mini", "openai/gpt-5", "OPENAI_API_KEY")
    assert edit.remove("nope") == 0
    assert edit.remove("mini") == 2
    text = (folder / "models.yaml").read_text(encoding="utf-8")
    assert "# my keys" in text
    assert "# the work account" in text
    assert wanted.load().models == ()


def test_mode_is_kept(folder: Path) -> None:
    """A file that only its owner could read stays so."""
    path = folder / "models.yaml"
    path.chmod(0o600)
    edit.add("nano", "openai/gpt-5-nano", "OPENAI_API_KEY")
    assert path.stat().st_mode & 0o777 == 0o600
