"""Kinds of steps for software: packages and repositories of apt, global packages of npm and pnpm."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm.guest.engine.probe import Step, as_user
from swarm.guest.kinds.basic import content_put
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Repository", "apt_repository", "fingerprints", "npm_global", "packages", "pnpm_global"]

_KEYRINGS = "/etc/apt/keyrings"


def packages(
    what: str,
    names: Sequence[str],
    *,
    after: tuple[str, ...] = (),
    from_repository: bool = False,
    at_least: Mapping[str, str] | None = None,
    upgrade: bool = False,
) -> Step:
    """Return a step for a group of apt packages, called `what`.

    A name may list alternatives, best first: 'docker-compose-v2|docker-compose'; one that ends in '|' may be missing. `at_least`
    gives the lowest version that will do. With `upgrade`, the newest version that apt offers is wanted. With `from_repository`,
    packages that apt does not know yet are no reason to refuse, since a repository that is still to be added will bring them.
    """
    at_least = at_least or {}
    everything = sorted({name for spec in names for name in spec.split("|") if name})
    probe = (
        f"packages_installed {quote(*everything)}",
        *(f"packages_lowest {quote(name, version)}" for name, version in at_least.items()),
        f"packages_candidates {int(upgrade)} {quote(*names)}",
        *(f"packages_offered {quote(name, version)}" for name, version in at_least.items()),
        ":",
    )

    def wanted_now(fact: str) -> list[str]:
        """The packages that must be installed or brought up to date."""
        installed, candidates, old = _read(fact)
        found = []
        for spec in names:
            choices = [name for name in spec.split("|") if name]
            have = [name for name in choices if name in installed]
            if (
                have
                and have[0] not in old
                and not (upgrade and candidates.get(have[0], installed[have[0]]) != installed[have[0]])
            ):
                continue
            offered = have or [name for name in choices if name in candidates]
            if offered or not spec.endswith("|"):
                found.append((offered or choices)[0])
        return found

    def apply(fact: str) -> str | None:
        needed = wanted_now(fact)
        if not needed:
            return None
        install = f"apt install --no-install-recommends -- {quote(*needed)}"
        # Lists that are too old lead to packages that are gone: fetch them and try once more.
        first = "" if "\nlists" in f"\n{fact}" and not upgrade and not _read(fact)[2] else "apt update\n"
        return f"dpkg --configure -a\n{first}{install} || {{ apt update && {install}; }}"

    def refuse(fact: str) -> str | None:
        if from_repository or "\nlists" not in f"\n{fact}":
            return None
        candidates = _read(fact)[1]
        if low := [row.split()[1:] for row in fact.splitlines() if row.startswith("low ")]:
            return "; ".join(
                f"the guest's package sources have {name} {version}, but {at_least[name]} or later is needed"
                for name, version in low
            )
        unknown = [name for name in wanted_now(fact) if name not in candidates]
        return f"the guest's package sources have no package {', '.join(unknown)}" if unknown else None

    return Step(
        f"packages: {what}",
        "\n".join(probe),
        f"{', '.join(spec.split('|')[0] for spec in names)}",
        apply,
        after,
        refuse=refuse,
        shown=lambda fact: (
            f"without {', '.join(missing)}" if len(missing := wanted_now(fact)) < len(names) else None
        ),
        known={"packages": tuple(everything)},
    )


def _read(fact: str) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Return installed versions, candidates, and the names that are too old."""
    table: dict[str, dict[str, str]] = {"installed": {}, "candidate": {}, "old": {}}
    for row in fact.splitlines():
        words = row.split()
        if len(words) == 3 and words[0] in table:  # noqa: PLR2004 - kind, name, version
            table[words[0]][words[1]] = words[2]
    return table["installed"], table["candidate"], set(table["old"])


@dataclass(frozen=True)
class Repository:
    """An apt repository. `suite` may hold {id} and {codename} of the guest's system, as may `uri`."""

    name: str
    uri: str
    suite: str
    components: str
    key_url: str
    fingerprint: str
    pinned: tuple[str, ...] = ()  # packages that must come from here even if the distribution has newer ones


def apt_repository(repository: Repository, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a repository in deb822 form whose key is checked by its fingerprint before anything is written.

    The key file may hold that key only. If the repository then does not deliver lists signed by it, its files are taken away again.
    """
    key_path, list_path = (
        f"{_KEYRINGS}/{repository.name}.asc",
        f"/etc/apt/sources.list.d/{repository.name}.sources",
    )
    pin_path = f"/etc/apt/preferences.d/{repository.name}"
    wanted_print = repository.fingerprint.replace(" ", "").lower()
    probe = f"""
. /etc/os-release
echo "os $ID ${{VERSION_CODENAME-}} $(dpkg --print-architecture)"
echo "sources $(sha256sum <{quote(list_path)} | cut -d' ' -f1)"
echo "pin $(sha256sum <{quote(pin_path)} | cut -d' ' -f1)"
key_fact {quote(key_path, repository.key_url)}
"""

    def content(fact: str) -> str:
        system, codename, architecture = [*_words(fact)["os"].split(" "), "", ""][:3]
        values = {"id": system, "codename": codename}
        return (
            f"Types: deb\nURIs: {repository.uri.format(**values)}\nSuites: {repository.suite.format(**values)}\n"
            f"Components: {repository.components}\nArchitectures: {architecture}\nSigned-By: {key_path}\n"
        ).replace("Components: \n", "")

    # 990 beats the distribution's 500 and stays below 1000, so it never downgrades.
    pin = "\n".join(
        f"Package: {name}\nPin: origin {urlsplit(repository.uri).hostname}\nPin-Priority: 990\n"
        for name in repository.pinned
    )

    def key(fact: str) -> bytes:
        known = _words(fact)
        return _unbase64(known.get("key", "") or known.get("offered", ""))

    def refuse(fact: str) -> str | None:
        known = _words(fact)
        if "failed" in known:
            return f"the key of the {repository.name} repository can't be fetched from {repository.key_url}: {known['failed']}"
        found = fingerprints(key(fact))
        if found == {wanted_print}:
            return None
        where = key_path if known.get("key") else repository.key_url
        shown = ", ".join(sorted(found)).upper() or "none that can be read"
        expected = f"expected the fingerprint {wanted_print.upper()}, found {shown}"
        return f"{where} holds another key than the {repository.name} repository's: {expected}"

    def apply(fact: str) -> str | None:
        known = _words(fact)
        right = known["sources"] == _sum(content(fact)) and known["pin"] == (_sum(pin) if pin else "")
        if known.get("key") and right:
            return None
        files = [
            f"printf '%s' {quote(base64.b64encode(key(fact)).decode())} | base64 -d | put {quote(key_path)} 644 root root"
        ]
        if repository.pinned:
            files.append(content_put(pin_path, pin, "644"))
        files.append(content_put(list_path, content(fact), "644"))
        lists = f"-o Dir::Etc::sourcelist={list_path} -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any"
        undo = f"rm -f -- {quote(list_path, pin_path, key_path)}"
        return (
            f"mkdir -p -m 755 {_KEYRINGS}\ntrap {quote(undo)} EXIT\n"
            + "\n".join(files)
            + f"\napt update {lists}\ntrap - EXIT"
        )

    return Step(
        f"apt repository {repository.name}",
        probe,
        f"{repository.uri}, signed by {repository.fingerprint[-16:]}",
        apply,
        after,
        refuse=refuse,
        shown=lambda fact: "there, but different" if _words(fact).get("key") else None,
    )


def _words(fact: str) -> dict[str, str]:
    return {word: rest for word, _, rest in (row.partition(" ") for row in fact.splitlines())}


def fingerprints(keyring: bytes) -> set[str]:
    """Return the fingerprints, in lower case, of all keys in an OpenPGP keyring, armoured or not; none if it can't be read."""
    from pysequoia import Cert

    try:
        return {cert.fingerprint.lower() for cert in Cert.split_bytes(keyring)}
    except RuntimeError:
        return set()


def npm_global(
    name: str,
    version: str,
    check: str,
    *,
    lowest: str = "0",
    program: str = "npm",
    after: tuple[str, ...] = (),
) -> Step:
    """Return a step for a package that npm, or the npm called `program`, installs for everybody, below /usr/local.

    `version` is an exact version, or a range like '24.x' or 'latest', which any installed version of that range from `lowest` on satisfies.
    `check` is shell that fails if what was installed does not work; it is then taken away again, so that the next run begins anew.
    """
    place = f"/usr/local/lib/node_modules/{name}/package.json"
    exact = re.fullmatch(r"\d+\.\d+\.\d+", version)
    major = re.fullmatch(r"(\d+)(\.x)?", version)

    def good(fact: str) -> bool:
        if exact or not fact:
            return fact == version
        return (not major or fact.split(".", maxsplit=1)[0] == major[1]) and _numbers(fact) >= _numbers(
            lowest
        )

    where = "--global --prefix /usr/local --no-fund --no-audit --loglevel=error --"
    install = f"{program} install {where} {quote(f'{name}@{version}')}"
    # npm leaves out, without a word, an optional part that it can't fetch; in pnpm's case that part is the program.
    undo = f"{program} uninstall {where} {quote(name)}"
    script = f"{install}\nif ! {check} >/dev/null; then\n{undo}\n{install}\n{check} >/dev/null || {{ {undo}; exit 1; }}\nfi"

    return Step(
        f"npm package {name}",
        f"[ -e {quote(place)} ] && sed -n {quote(_VERSION_LINE)} {quote(place)}\n:",
        version,
        lambda fact: None if good(fact) else script,
        after,
        shown=lambda fact: fact or None,
    )


def pnpm_global(user: str, name: str, home: str, record: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a package that pnpm installs for one user, in the version that the file `record` holds.

    The fact is the version that the program's own shim in PNPM_HOME leads to, and the recorded one. Build scripts of the package itself may
    run, as its author asks for them; those of its dependencies are not needed and stay off.
    """
    shim = f"{home}/.local/share/pnpm/bin/{name}"
    probe = f"""
target=$(sed -n 's/^# cmd-shim-target=//p' {quote(shim)})
if [ -n "$target" ]; then sed -n {quote(_VERSION_LINE)} "$(dirname "$target")/package.json" | head -n1; else echo none; fi
sed -n 's/^version //p' {quote(record)} | grep . || echo none
"""

    def apply(fact: str) -> str | None:
        installed, recorded = fact.split("\n")[:2]
        if installed == recorded != "none":
            return None
        if recorded == "none":
            return "echo 'no version is recorded'; exit 1"
        add = f"pnpm add --global --reporter=append-only --allow-build={quote(name)} {quote(f'{name}@{recorded}')}"
        return as_user(user, f'mkdir -p "$PNPM_HOME/bin"\n{add}')

    return Step(
        f"pnpm package {name}",
        probe,
        "the recorded version",
        apply,
        after,
        shown=lambda fact: None if fact.startswith("none") else fact.partition("\n")[0],
        reader=user,
        unread="none\nnone",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


_VERSION_LINE = r's/^ *"version": *"\([^"]*\)".*/\1/p'


def _sum(content: str) -> str:
    import hashlib

    return hashlib.sha256(content.encode()).hexdigest()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
