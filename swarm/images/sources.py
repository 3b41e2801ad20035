"""Find the machine's apt sources of its distribution. An image is built and later updated from them.

Apt identifies the distribution's sources by their signed Release files. Their entries are copied unchanged,
with their options and keys. The machine's other repositories are left out of the image.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ImageError, Unfit

__all__ = ["Sources", "of_this_machine"]

# They refer to files of this machine, which a guest cannot read.
_LOCAL = ("cdrom:", "file:", "copy:", "mirror+file:")
_ORIGINS = {"debian": "Debian", "ubuntu": "Ubuntu"}
_FORMAT = "$(ORIGIN)|$(CODENAME)|$(SOURCESENTRY)|$(REPO_URI)"


@dataclass(frozen=True)
class Sources:
    """Apt sources: `lines` in the one-line style, `stanzas` in deb822 style, and the `keys` that they name."""

    lines: str
    stanzas: str
    keys: tuple[Path, ...]
    build_options: tuple[str, ...]
    guest_options: tuple[str, ...]


def of_this_machine(distribution: str, suite: str, work: Path) -> Sources:
    """Return the sources that provide `suite` of `distribution`. `work` is a directory for temporary files.

    Raise Unfit if the machine has none that a guest can use. Raise ImageError if one contains a password.
    """
    entries = _entries(_ORIGINS[distribution], suite, [])
    if not entries:  # the package lists were deleted, or never downloaded
        lists = work / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        option = ["-o", f"Dir::State::Lists={lists}"]
        done = subprocess.run(
            ["apt-get", *option, "-qq", "update"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        entries = _entries(_ORIGINS[distribution], suite, option)
        if not entries:
            said = next((f": {line[3:]}" for line in done.stderr.splitlines() if line.startswith("E: ")), "")
            raise Unfit(
                f"this machine has no apt source for {distribution} {suite} that a guest can use{said}",
                "check /etc/apt/sources.list.d, then run `apt-get update`",
            )
    return _read(entries)


def _entries(origin: str, suite: str, option: list[str]) -> list[tuple[Path, int]]:
    """Return the (file, number) of each apt source whose Release file names `suite` and `origin`."""
    command = ["apt-get", *option, "indextargets", "--format", _FORMAT, "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    found: dict[tuple[Path, int], None] = {}
    for line in done.stdout.splitlines():
        who, codename, entry, uri = line.split("|", 3)
        if who == origin and codename.split("-")[0] == suite and not uri.startswith(_LOCAL):
            if re.search(r"://[^/]*@", uri):
                raise ImageError(
                    "an apt source of this machine contains a password, which every user of the guest could read",
                    "move it to /etc/apt/auth.conf.d",
                )
            path, number = entry.rsplit(":", 1)
            found[Path(path), int(number)] = None
    return list(found)


def _read(entries: list[tuple[Path, int]]) -> Sources:
    lines, stanzas = [], []
    for path, number in entries:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".sources":
            stanzas.append(_stanza(text, number))
        else:
            lines.append(text.splitlines()[number - 1])
    named = re.findall(r"(?im)^signed-by:[ \t]*(.+)$", "\n".join(stanzas)) + re.findall(
        r"(?i)signed-by=([^\s\]]+)", "\n".join(lines)
    )
    keys = (key for value in named for key in re.split(r"[\s,]+", value) if key.startswith("/"))
    build, guest = _options()
    return Sources(
        "".join(f"{line}\n" for line in lines),
        "\n\n".join(stanzas) + "\n" if stanzas else "",
        tuple(Path(key) for key in keys),
        build,
        guest,
    )


def _stanza(text: str, number: int) -> str:
    """Return paragraph `number` of a deb822 file. Apt counts from 1."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if re.search(r"(?im)^types:", part)]
    return "\n".join(line for line in paragraphs[number - 1].splitlines() if not line.startswith("#"))


def _options() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return apt's options for reaching the sources: all for the build, only public ones for the guest."""
    done = subprocess.run(
        ["apt-config", "dump", "Acquire"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    wanted = re.compile(
        r'Acquire::(https?::Proxy(::\S+)?|https::(\S+::)?CAInfo|Check-Valid-Until|Check-Date) ".+"',
        re.IGNORECASE,
    )
    build = tuple(line.rstrip(";") for line in done.stdout.splitlines() if wanted.match(line))
    return build, tuple(
        line for line in build if not re.search(r"@|localhost|127\.0\.0\.1|\[::1\]|CAInfo", line)
    )
