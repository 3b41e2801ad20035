"""A signed apt repository, served on a machine's own loopback: real keys, real signatures, real apt."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from email.utils import formatdate
from typing import TYPE_CHECKING, Self

from tools.lab import Machine, run

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8099
_LONG_AGO = ("--faked-system-time", "20200101T000000")


class AptRepo:
    """A repository of packages that hold one script each. A context manager; `url` is valid inside the machine."""

    url = f"http://127.0.0.1:{PORT}"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.folder = machine.world.folder / f"repo-{machine.alias}"
        self._keys = machine.world.folder / f"gpg-{machine.alias}"
        self._server: subprocess.Popen[bytes] | None = None
        self.fingerprints: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._keys.mkdir(mode=0o700)
        for name in ("right", "wrong"):
            self._gpg(
                *_LONG_AGO, "--quick-gen-key", f"{name} <{name}@example.invalid>", "ed25519", "sign", "never"
            )
            listing = self._gpg("--with-colons", "--list-keys", f"{name}@example.invalid").splitlines()
            self.fingerprints[name] = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
            (self.folder / f"{name}.asc").write_text(
                self._gpg("--armor", "--export", f"{name}@example.invalid")
            )
        self.publish("right")
        inside = [
            "nsenter",
            f"--net=/run/netns/{self._machine.netns}",
            sys.executable,
            "-m",
            "http.server",
            str(PORT),
            "--bind",
            "127.0.0.1",
        ]
        self._server = subprocess.Popen(
            inside, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._machine.until(
                f"curl -fsS -m 10 -o /dev/null {self.url}/right.asc", "the apt repository answers"
            )
        except BaseException:  # Ctrl-C too: without this, nobody would stop the server
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.terminate()
            self._server.wait()
        run("gpgconf", "--homedir", self._keys, "--kill", "all", check=False)
        shutil.rmtree(self.folder)
        shutil.rmtree(self._keys)

    def expired_copy(self, name: str) -> Path:
        """Return a copy of a key as it was when it still had an end, which has passed. The key itself is renewed."""
        fingerprint = self.fingerprints[name]
        self._gpg(*_LONG_AGO, "--quick-set-expire", fingerprint, "1y")
        copy = self.folder / f"{name}-expired.asc"
        copy.write_text(self._gpg("--armor", "--export", fingerprint))
        self._gpg("--quick-set-expire", fingerprint, "never")
        (self.folder / f"{name}.asc").write_text(self._gpg("--armor", "--export", fingerprint))
        return copy

    def package(self, name: str, version: str, files: dict[str, str]) -> None:
        """Add a package with the given executable files."""
        tree = self.folder / "build"
        for path, content in files.items():
            target = tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
            target.chmod(0o755 if content.startswith("#!") else 0o644)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        control += "Maintainer: Tests <tests@example.invalid>\nDescription: made by a test\n"
        (tree / "DEBIAN/control").write_text(control)
        run("dpkg-deb", "--root-owner-group", "--build", tree, self.folder / f"{name}_{version}_all.deb")
        shutil.rmtree(tree)

    def publish(self, signer: str, suite: str = "bookworm", component: str = "main") -> None:
        """Write the lists for all packages so far, signed by one of the two keys."""
        entries = []
        for deb in sorted(self.folder.glob("*.deb")):
            data = deb.read_bytes()
            control = run("dpkg-deb", "--field", deb).rstrip()
            entries.append(
                f"{control}\nFilename: {deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        dist = self.folder / "dists" / suite
        lists = dist / component / "binary-amd64"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "Packages").write_text("\n".join(entries))
        (lists / "Packages.gz").write_bytes(gzip.compress((lists / "Packages").read_bytes()))
        sums = [
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(dist)}"
            for path in lists.iterdir()
        ]
        release = f"Origin: Tests\nLabel: Tests\nSuite: {suite}\nCodename: {suite}\nDate: {formatdate(usegmt=True)}\n"
        release += f"Architectures: amd64\nComponents: {component}\nSHA256:\n" + "\n".join(sums) + "\n"
        (dist / "Release").write_text(release)
        (dist / "InRelease").unlink(missing_ok=True)
        self._gpg(
            "--local-user",
            f"{signer}@example.invalid",
            "--clearsign",
            "--output",
            dist / "InRelease",
            dist / "Release",
        )

    def _gpg(self, *words: str | Path) -> str:
        return run(
            "gpg",
            "--homedir",
            self._keys,
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            *words,
        )
