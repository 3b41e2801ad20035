"""The section `backup:` of a host file."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from swarm.inventory.fields import wrong
from swarm.inventory.inside import Section
from swarm.inventory.shapes import Command, LocalFile, LocalFolder, names_server

__all__ = ["BackupSettings"]

# Patterns of rsync. A leading slash stands for the state directory.
_EXCLUDE = (
    "/workspace/",
    "/logs/",
    "/cache/",
    "/tmp/",  # noqa: S108 - in the state directory
    "/extensions-quarantine/",
    "*.bak*",
    "*.backup-*",
    "*.pre-*",
    "*.failed",
)

_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9._-]+)*)/?")
# Labels as in DNS. The S3 client accepts no others, such as one with an underscore.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")  # Bech32 without 1, b, i and o


def _destination(value: str) -> str:
    if value.startswith("file://"):
        path = value.removeprefix("file://")
        if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
            raise wrong("expected file:// and an absolute path, such as file:///mnt/nas/backups")
    elif not _S3.fullmatch(value):
        raise wrong("expected s3://BUCKET/PREFIX/ or file:///DIRECTORY, such as s3://zap/backups/")
    return value


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?", value) or not value.isprintable():
        raise wrong(
            "expected http:// or https:// with a host and a port, such as https://s3.example.com",
            "credentials belong in ~/.aws/credentials",
        )
    if not names_server(value, _HOST):
        raise wrong(
            "expected a host of letters, digits, hyphens and dots, and a port from 1 to 65535, if any"
        )
    return value.rstrip("/")


def _recipient(value: str) -> str:
    if value.startswith("AGE-SECRET-KEY-"):
        raise wrong(
            "expected a public key, found a secret key", "`inv backup.key` shows both halves of a new pair"
        )
    if not _RECIPIENT.fullmatch(value):
        raise wrong("expected an age public key: 'age1' and 58 more characters")
    return value


def _ping(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s]+", value) or not value.isprintable():
        raise wrong("expected a URL that starts with http:// or https://")
    if not names_server(value.replace("{state}", "start")):
        raise wrong("expected a URL with a host and a port that exist, such as https://hc-ping.com/UUID")
    return value


def _pattern(value: str) -> str:
    if not value or not value.isprintable() or value.startswith(("+ ", "- ", "!")):
        raise wrong("expected one pattern of rsync, such as /media/ or *.log")
    return value


class BackupSettings(Section):
    """`backup:` of a host file: the settings of `inv backup` and `inv restore`."""

    destinations: tuple[Annotated[str, AfterValidator(_destination)], ...] = Field(
        default=(),
        description="Where archives go: s3://BUCKET/PREFIX/ or file:///DIRECTORY. Default: the project's backups/.",
        examples=[["s3://zap/backups/"]],
    )
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="The S3 server, if it is not AWS.", examples=["http://192.168.153.253:9000"]
    )
    ca_certificate: LocalFile | None = Field(
        default=None, description="A PEM file with the CA of the S3 server, if it is your own."
    )
    recipient: Annotated[str, AfterValidator(_recipient)] | None = Field(
        default=None, description="The age public key to encrypt archives to; `inv backup.key` makes a pair."
    )
    keep: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=7, description="How many of the newest verified archives to keep."
    )
    daily: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="Also keep the newest archive of so many days."
    )
    weekly: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="Also keep the newest archive of so many weeks."
    )
    monthly: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="Also keep the newest archive of so many months."
    )
    exclude: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=_EXCLUDE,
        description="Patterns of rsync for what is not backed up; a leading / is the state directory.",
    )
    max_loss: Annotated[int, Field(ge=0, le=100)] = Field(
        default=25,
        description="Refuse a backup that would remove more than this percentage of the mirror's files.",
    )
    bwlimit: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The most KiB per second that transfers may use."
    )
    before: tuple[Command, ...] = Field(
        default=(), description="Shell commands to run on this computer before the backup."
    )
    after: tuple[Command, ...] = Field(
        default=(), description="Shell commands to run on this computer after a backup, also a failed one."
    )
    on_error: tuple[Command, ...] = Field(
        default=(), description="Shell commands to run on this computer if the backup fails."
    )
    ping: Annotated[str, AfterValidator(_ping)] | None = Field(
        default=None,
        description="A dead man's switch: the URL is called with /start, nothing or /fail appended, or with "
        "{state} replaced by start, success, warn or fail. A warning resets the switch as a success does.",
        examples=["https://hc-ping.com/UUID", "https://status.example.com/push?state={state}"],
    )
    metrics: LocalFolder | None = Field(
        default=None,
        description="A directory for a textfile of metrics, such as node_exporter's textfile directory.",
    )
