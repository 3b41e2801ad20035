"""The sections of a host file about the inside of the guest. Keys have the names of the openclaw-ansible role."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from swarm.inventory.fields import SshKey, wrong
from swarm.inventory.node import NEEDED, runs_openclaw
from swarm.inventory.shapes import (
    Account,
    Command,
    GitAddress,
    LocalFile,
    NumberOrText,
    RepositoryText,
    RepositoryWord,
    Shape,
    Variable,
    Word,
    WordList,
)

__all__ = [
    "CommandItem",
    "Customize",
    "FileItem",
    "InstallSettings",
    "Item",
    "PackageItem",
    "Share",
    "Source",
    "SysctlItem",
]

_NODE = re.compile(r"\d{1,6}(\.x|\.\d{1,6}\.\d{1,6})?")


def _node(value: str) -> str:
    if not _NODE.fullmatch(value):
        raise wrong("expected a Node release line such as 24.x, or a full version such as 24.21.0")
    if not runs_openclaw(value):
        raise wrong(f"OpenClaw needs Node {NEEDED}; use for example 24.x")
    return value


def _package(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", value):
        raise wrong("expected the name of a package, such as htop")
    return value


def _mode(value: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise wrong("expected a file mode as text, such as '0644'")
    return value.lstrip("0").rjust(3, "0")


def _absolute(value: str) -> str:
    if (
        not value.startswith("/")
        or ".." in value.split("/")
        or value.endswith("/")
        or not value.isprintable()
    ):
        raise wrong("expected the absolute path of a file, without '..'")
    return value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


def _not_root(value: str) -> str:
    if value == "root":
        raise wrong("expected an account other than root: the agent's programs run as this user")
    return value


_Fingerprint = Annotated[
    str,
    Shape(
        r"([0-9A-Fa-f] *){39}[0-9A-Fa-f]",
        "the fingerprint of an OpenPGP key: 40 hexadecimal digits",
        "gpg --show-keys FILE shows it",
    ),
]
_Version = Annotated[
    str,
    Shape(
        r"\d[0-9A-Za-z.+-]*",
        "an exact version, such as 2026.9.1",
        "for a release channel such as latest, use channel",
    ),
]
_Sysctl = Annotated[
    str,
    Shape(
        r"[a-z0-9_]+(\.[A-Za-z0-9_-]+)+", "the name of a kernel parameter with dots, such as vm.swappiness"
    ),
]
_Zone = Annotated[
    str,
    Shape(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", "a name from the time zone database, such as Europe/Berlin"),
]


class Section(BaseModel):
    """A section of a host file. It is immutable, refuses unknown keys, and keeps its values out of error messages."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        serialize_by_alias=True,
        field_title_generator=lambda name, _: name,
        hide_input_in_errors=True,
    )


class Source(Section):
    """A vendor's apt repository or a mirror. {id} and {codename} are those of the guest's OS, {major} is Node's."""

    uri: RepositoryText = Field(examples=["https://mirror.example.org/linux/debian"])
    suite: RepositoryText = Field(examples=["bookworm"])
    components: WordList = ""
    key_url: RepositoryWord = Field(examples=["https://mirror.example.org/key.asc"])
    fingerprint: _Fingerprint = Field(examples=["9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88"])


class InstallSettings(Section):
    """`openclaw:` of a host file: the settings of `inv install`."""

    install_mode: Literal["release", "development"] = Field(
        default="release",
        description="'release' installs the npm package; 'development' builds a git checkout.",
    )
    version: _Version | None = Field(
        default=None, description="The exact OpenClaw version; takes precedence over channel."
    )
    channel: Word = Field(
        default="latest",
        description="The npm dist-tag. It is resolved once and recorded in the guest; `--upgrade` renews it.",
    )
    user: Annotated[Account, AfterValidator(_not_root)] = Field(
        default="openclaw", description="The account that runs OpenClaw."
    )
    port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        default=18789, description="The gateway's port on the loopback interface."
    )
    ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        description="Public keys that may log in as root and openclaw. If empty, swarm generates a key pair.",
    )
    config: LocalFile | None = Field(
        default=None,
        description="The initial openclaw.json, a file on this computer; used if the guest has none.",
    )
    ca_certificates: tuple[LocalFile, ...] = Field(
        default=(),
        description="PEM files with CAs for the guest to trust; 'machine' for the CAs added to this computer.",
    )
    nodejs_version: Annotated[str, AfterValidator(_node)] = Field(
        default="24.x", description="A Node release line such as 24.x, or a full version."
    )
    nodejs_source: Literal["nodesource", "npm", "distribution"] = Field(
        default="nodesource", description="The source of Node."
    )
    docker_source: Literal["docker.com", "distribution"] = Field(
        default="docker.com", description="The source of Docker."
    )
    tailscale_enabled: bool = Field(default=False, description="Install Tailscale and join its network.")
    tailscale_authkey_env: Variable = Field(
        default="TAILSCALE_AUTHKEY", description="The environment variable that contains the auth key."
    )
    tailscale_authkey_file: LocalFile | None = Field(
        default=None, description="A file that contains the auth key; takes precedence over the variable."
    )
    repo_url: GitAddress = Field(
        default="https://github.com/openclaw/openclaw.git",
        description="The git repository for install_mode development.",
    )
    repo_branch: Word = Field(default="main", description="The branch for install_mode development.")
    sources: dict[Literal["nodesource", "docker", "tailscale"], Source] = Field(
        default={}, description="Mirrors of the vendors' apt repositories."
    )

    @property
    def home(self) -> str:
        """The account's home directory."""
        return f"/home/{self.user}"

    @property
    def config_dir(self) -> str:
        """OpenClaw's state directory."""
        return f"{self.home}/.openclaw"

    @property
    def repo_dir(self) -> str:
        """The git checkout for install_mode development."""
        return f"{self.home}/code/openclaw"


class FileItem(Section):
    """A file to write in the guest."""

    file: AbsolutePath
    content: str | None = None
    source: LocalFile | None = None
    mode: Annotated[str, AfterValidator(_mode)] = "644"
    owner: Account = "root"
    group: Account | None = Field(default=None, description="The file's group. Default: the owner's.")
    secret: bool = False

    @model_validator(mode="after")
    def _one_content(self) -> FileItem:
        if (self.content is None) == (self.source is None):
            raise wrong("file: expected either content or source (a file on this computer)")
        return self


class SysctlItem(Section):
    """A kernel parameter to set."""

    sysctl: _Sysctl
    value: NumberOrText = Field(examples=["1"])


class PackageItem(Section):
    """A package to install from the distribution."""

    package: Annotated[str, AfterValidator(_package)]


class CommandItem(Section):
    """A shell command, run as `user` (root) unless `creates` exists or `unless` succeeds."""

    command: Command
    unless: str | None = None
    creates: AbsolutePath | None = None
    user: Account | None = None

    @model_validator(mode="after")
    def _one_guard(self) -> CommandItem:
        if (self.unless is None) == (self.creates is None):
            raise wrong(
                "command: expected either creates (a path) or unless (a command that succeeds if nothing is due)"
            )
        return self


_KINDS = ("file", "sysctl", "package", "command")


def _kind(value: Any) -> str | None:  # noqa: ANN401 - YAML can contain any type
    keys = vars(value) if isinstance(value, Section) else value
    return next((kind for kind in _KINDS if kind in keys), None) if isinstance(keys, dict) else None


Item = Annotated[
    Annotated[FileItem, Tag("file")]
    | Annotated[SysctlItem, Tag("sysctl")]
    | Annotated[PackageItem, Tag("package")]
    | Annotated[CommandItem, Tag("command")],
    Discriminator(
        _kind,
        custom_error_type="item",
        custom_error_message="expected an item with one of the keys file, sysctl, package or command",
    ),
]


class Share(Section):
    """A virtiofs share, as seen by the guest."""

    tag: str
    target: AbsolutePath


class Customize(Section):
    """`guest:` of a host file: the settings of `inv customize`."""

    swappiness: Annotated[int, Field(ge=0, le=200)] = Field(
        default=10, description="vm.swappiness, 0 to 200."
    )
    timezone: _Zone = Field(
        default="Etc/UTC", description="A name from the time zone database, such as Europe/Berlin."
    )
    customize: tuple[Item, ...] = Field(
        default=(), description="Your own files, sysctls, packages and commands."
    )
