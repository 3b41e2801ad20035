"""What a host file may say about the inside of a guest, by the names of the openclaw-ansible role."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from swarm.inventory.fields import SshKey

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

# OpenClaw's own "engines": Node >=24.16.0 <25 || >=26.1.0.
_NODE = re.compile(r"(?P<major>\d+)(\.x|\.(?P<minor>\d+)\.\d+)?")
_LOWEST_MINOR = {24: 16, 26: 1}


_EVERY_FROM = 27  # OpenClaw supports every Node release line from here on


def _node(value: str) -> str:
    match = _NODE.fullmatch(value)
    if not match:
        raise ValueError("expected a Node release line such as 24.x, or a full version such as 24.21.0")
    major, minor = int(match["major"]), match["minor"]
    if (major not in {24, 26} and major < _EVERY_FROM) or (
        minor is not None and int(minor) < _LOWEST_MINOR.get(major, 0)
    ):
        raise ValueError(
            "OpenClaw requires Node 24.16 or a later 24.x, or 26.1 or later; use for example 24.x"
        )
    return value


def _package(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", value):
        raise ValueError("expected the name of a package, such as htop")
    return value


def _mode(value: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError("expected a file mode as text, such as '0644'")
    return value.lstrip("0").rjust(3, "0")


def _absolute(value: str) -> str:
    if (
        not value.startswith("/")
        or ".." in value.split("/")
        or value.endswith("/")
        or not value.isprintable()
    ):
        raise ValueError("expected the absolute path of a file, without '..'")
    return value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Account = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")]


class Section(BaseModel):
    """A part of a host file: frozen, and without unknown keys. Errors never repeat the values."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", field_title_generator=lambda name, _: name, hide_input_in_errors=True
    )


class Source(Section):
    """An apt repository of a vendor, or a mirror of it. {id} and {codename} stand for the guest's system."""

    uri: str
    suite: str
    components: str = ""
    key_url: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-Fa-f ]{40,60}$")]


class InstallSettings(Section):
    """`openclaw:` of a host file: what `inv install` makes."""

    install_mode: Literal["release", "development"] = Field(
        default="release",
        description="'release' installs the npm package, 'development' builds a git checkout.",
    )
    version: Annotated[str, Field(pattern=r"^\d[0-9A-Za-z.+-]*$")] | None = Field(
        default=None, description="The exact OpenClaw version; it goes before channel."
    )
    channel: Word = Field(
        default="latest",
        description="The npm dist-tag, resolved once and recorded in the guest; `--upgrade` resolves it again.",
    )
    user: Account = Field(default="openclaw", description="The account that OpenClaw runs as.")
    port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        default=18789, description="The gateway's port, on loopback only."
    )
    ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        description="Public keys that may log in as root and openclaw; with none, swarm makes a key of its own.",
    )
    config: Path | None = Field(
        default=None, description="An openclaw.json on this computer that a guest without one starts from."
    )
    ca_certificates: tuple[Path, ...] = Field(
        default=(),
        description="PEM files on this computer with authorities that the guest trusts; 'machine': those added here.",
    )
    nodejs_version: Annotated[str, AfterValidator(_node)] = Field(
        default="24.x", description="A Node release line like 24.x, or one version of it."
    )
    nodejs_source: Literal["nodesource", "npm", "distribution"] = Field(
        default="nodesource", description="Where Node comes from."
    )
    docker_source: Literal["docker.com", "distribution"] = Field(
        default="docker.com", description="Where Docker comes from."
    )
    tailscale_enabled: bool = Field(default=False, description="Install Tailscale and join its network.")
    tailscale_authkey_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] = Field(
        default="TAILSCALE_AUTHKEY", description="The environment variable that holds the auth key."
    )
    tailscale_authkey_file: Path | None = Field(
        default=None, description="A file that holds the auth key; it goes before the variable."
    )
    repo_url: str = Field(
        default="https://github.com/openclaw/openclaw.git",
        description="For install_mode development: what is cloned.",
    )
    repo_branch: Word = Field(default="main", description="For install_mode development: which branch.")
    sources: dict[Literal["nodesource", "docker", "tailscale"], Source] = Field(
        default={}, description="Mirrors of the vendors' apt repositories."
    )

    @property
    def home(self) -> str:
        """The account's home folder."""
        return f"/home/{self.user}"

    @property
    def config_dir(self) -> str:
        """OpenClaw's state folder."""
        return f"{self.home}/.openclaw"

    @property
    def repo_dir(self) -> str:
        """The checkout of install_mode development."""
        return f"{self.home}/code/openclaw"


class FileItem(Section):
    """A file of the user's own."""

    file: AbsolutePath
    content: str | None = None
    source: Path | None = None
    mode: Annotated[str, AfterValidator(_mode)] = "644"
    owner: Account = "root"
    group: Account = "root"

    @model_validator(mode="after")
    def _one_content(self) -> FileItem:
        if (self.content is None) == (self.source is None):
            raise ValueError("file: expected either content or source (a file on this computer)")
        return self


class SysctlItem(Section):
    """A kernel setting."""

    sysctl: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$")]
    value: int | str


class PackageItem(Section):
    """A package of the distribution."""

    package: Annotated[str, AfterValidator(_package)]


class CommandItem(Section):
    """Shell that runs as root, or as `user`, when its guard says that it is due."""

    command: Annotated[str, Field(min_length=1)]
    unless: str | None = None
    creates: AbsolutePath | None = None
    user: Account | None = None

    @model_validator(mode="after")
    def _one_guard(self) -> CommandItem:
        if (self.unless is None) == (self.creates is None):
            raise ValueError(
                "command: expected either creates (a path) or unless (a command that succeeds if nothing is due)"
            )
        return self


_KINDS = ("file", "sysctl", "package", "command")


def _kind(value: Any) -> str | None:  # noqa: ANN401 - anything may stand in a YAML file
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Section) else ()
    return next((kind for kind in _KINDS if kind in keys), None)


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
    """A virtiofs share, as the guest sees it."""

    tag: str
    target: AbsolutePath


class Customize(Section):
    """`guest:` of a host file: what `inv customize` sets."""

    swappiness: Annotated[int, Field(ge=0, le=200)] = Field(
        default=10, description="vm.swappiness, 0 to 200."
    )
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")] = Field(
        default="Etc/UTC", description="A name of the time zone database, like Europe/Berlin."
    )
    customize: tuple[Item, ...] = Field(
        default=(), description="Files, sysctls, packages and commands of your own."
    )
