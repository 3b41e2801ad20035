"""The apt sources that an image gets, found by the real apt with repositories on loopback."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from swarm.errors import ImageError, Unfit
from swarm.images import sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not shutil.which("apt-get"), reason="images are built on Debian and Ubuntu only"
)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, *_: object) -> None:
        """Keep the tests' output readable."""


class Machine:
    """A machine's apt: its configuration below `base`, its repositories at `address`."""

    def __init__(self, base: Path, address: str) -> None:
        self.base, self.address = base, address
        for folder in (
            "etc/sources.list.d",
            "lists/partial",
            "none",
            "cache/archives/partial",
            "www",
            "work",
        ):
            (base / folder).mkdir(parents=True)
        (base / "status").touch()
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write apt's configuration, which uses no file of the real machine."""
        places = f'Dir::Etc "{self.base}/etc"; Dir::State::Lists "{self.base}/lists"; Dir::Cache "{self.base}/cache"; '
        places += f'Dir::State::status "{self.base}/status"; Dir::Etc::Parts "{self.base}/none"; '
        places += 'Dir::Etc::Main "/dev/null"; '
        (self.base / "apt.conf").write_text(
            f'{places}\nAPT::Sandbox::User "root";\nAcquire::http::Proxy::127.0.0.1 "DIRECT";\n{more}'
        )

    def repository(self, name: str, origin: str, codename: str, suite: str = "") -> None:
        """Publish a repository with one package."""
        packages = b"Package: thing\nVersion: 1\nArchitecture: all\nFilename: thing.deb\nSize: 1\n"
        folder = self.base / "www" / name / "dists" / (suite or codename)
        (folder / "main/binary-amd64").mkdir(parents=True)
        (folder / "main/binary-amd64/Packages").write_bytes(packages)
        head = f"Origin: {origin}\nLabel: {origin}\nCodename: {codename}\nSuite: stable\n"
        head += "Architectures: amd64\nComponents: main\n"
        index = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
        (folder / "Release").write_text(f"{head}Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n{index}")

    def source(self, name: str, text: str) -> None:
        """Write a sources file. AT is replaced with the URL of the repositories."""
        (self.base / "etc/sources.list.d" / name).write_text(text.replace("AT", self.address))

    def read(self) -> sources.Sources:
        """Return the sources for an image of Debian 12."""
        return sources.of_this_machine("debian", "bookworm", self.base / "work")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine without sources that has never downloaded package lists."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.delenv("http_proxy", raising=False)
    try:
        yield Machine(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_stanzas(machine: Machine) -> None:
    """The distribution's stanzas, security and updates included, are copied unchanged. Others are left out."""
    machine.repository("debian", "Debian", "bookworm")
    machine.repository("debian", "Debian", "bookworm-updates")
    machine.repository("security", "Debian", "bookworm-security")
    machine.repository("tool", "Toolmaker", "bookworm")
    machine.repository("debian", "Debian", "trixie")
    machine.source(
        "debian.sources",
        "# the main archive\nTypes: deb\nURIs: AT/debian/\nSuites: bookworm bookworm-updates\n"
        "Components: main\nTrusted: yes\n\n"
        "Types: deb\nURIs: AT/tool/\nSuites: bookworm\nComponents: main\nTrusted: yes\n\n\n"
        "Types: deb\nURIs: AT/security/\nSuites: bookworm-security\nComponents: main\nTrusted: yes\n"
        "Signed-By: /usr/share/keyrings/some.gpg\n",
    )
    machine.source(
        "newer.sources", "Types: deb\nURIs: AT/debian/\nSuites: trixie\nComponents: main\nTrusted: yes\n"
    )
    found = machine.read()
    assert found.stanzas == (
        f"Types: deb\nURIs: {machine.address}/debian/\nSuites: bookworm bookworm-updates\n"
        "Components: main\nTrusted: yes\n\n"
        f"Types: deb\nURIs: {machine.address}/security/\nSuites: bookworm-security\nComponents: main\nTrusted: yes\n"
        "Signed-By: /usr/share/keyrings/some.gpg\n"
    )
    assert found.lines == ""
    assert [str(key) for key in found.keys] == ["/usr/share/keyrings/some.gpg"]


def test_lines(machine: Machine) -> None:
    """Entries in the one-line style are copied unchanged, with their options."""
    machine.repository("debian", "Debian", "bookworm")
    machine.repository("tool", "Toolmaker", "bookworm")
    line = "deb [trusted=yes arch=amd64 signed-by=/etc/apt/keyrings/our.asc,/etc/apt/keyrings/two.asc] "
    line += "AT/debian/ bookworm main"
    machine.source("all.list", f"# comment\ndeb [trusted=yes] AT/tool/ bookworm main\n\n{line}\n")
    found = machine.read()
    assert found.lines == line.replace("AT", machine.address) + "\n"
    assert [str(key) for key in found.keys] == ["/etc/apt/keyrings/our.asc", "/etc/apt/keyrings/two.asc"]


def test_options(machine: Machine) -> None:
    """The build gets every option for the sources. The guest gets none that is secret or local."""
    machine.repository("debian", "Debian", "bookworm")
    machine.source("debian.list", "deb [trusted=yes] AT/debian/ bookworm main\n")
    proxies = (
        'Acquire::https::Proxy "http://me:secret@proxy:3128"; Acquire::http::Proxy "http://proxy:3128"; '
    )
    proxies += 'Acquire::Check-Valid-Until "false";'
    machine.configure(f'{proxies} APT::Install-Recommends "false";')
    found = machine.read()
    assert set(found.build_options) == {
        'Acquire::http::Proxy::127.0.0.1 "DIRECT"',
        'Acquire::https::Proxy "http://me:secret@proxy:3128"',
        'Acquire::http::Proxy "http://proxy:3128"',
        'Acquire::Check-Valid-Until "false"',
    }
    assert found.guest_options == (
        'Acquire::http::Proxy "http://proxy:3128"',
        'Acquire::Check-Valid-Until "false"',
    )


def test_password(machine: Machine) -> None:
    """A password in a source is neither written into an image nor shown."""
    machine.repository("debian", "Debian", "bookworm")
    machine.source(
        "debian.list",
        "deb [trusted=yes] AT/debian/ bookworm main\n".replace(
            "AT", machine.address.replace("//", "//me:secret@")
        ),
    )
    with pytest.raises(ImageError, match="contains a password") as caught:
        machine.read()
    assert "secret" not in str(caught.value)


def test_local_only(machine: Machine) -> None:
    """A source in a local directory is rejected, because a guest cannot read it."""
    machine.repository("debian", "Debian", "bookworm")
    machine.source("debian.list", f"deb [trusted=yes] file:{machine.base}/www/debian bookworm main\n")
    with pytest.raises(Unfit, match="no apt source for debian bookworm that a guest can use"):
        machine.read()


def test_unreachable(machine: Machine) -> None:
    """If the package lists are missing and can't be downloaded, the error contains apt's message."""
    machine.source("debian.list", "deb [trusted=yes] AT/nothing/ bookworm main\n")
    with pytest.raises(
        Unfit, match=r"no apt source for debian bookworm that a guest can use: .*/nothing"
    ) as caught:
        machine.read()
    assert "apt-get update" in str(caught.value.hint)


def test_lists_are_unchanged(machine: Machine) -> None:
    """The machine's own package lists are not changed."""
    machine.repository("debian", "Debian", "bookworm")
    machine.source("debian.list", "deb [trusted=yes] AT/debian/ bookworm main\n")
    machine.read()
    assert [path.name for path in (machine.base / "lists").iterdir()] == ["partial"]
