"""The shell of templates/guest: ShellCheck finds nothing, and what it decides is right on real files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jinja2 import meta

from swarm import templates
from swarm.guest.engine.script import prelude
from swarm.guest.kinds.archives import NPM, PNPM
from swarm.guest.kinds.node import NODE, TOOL
from swarm.text import quote

FOLDER = Path(__file__).parents[2] / "templates"
NAMES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("guest/*.sh.j2"))
ODD = 'it\'s $HOME\n`id` "x"'


def values(name: str) -> dict[str, Any]:
    """An odd value for each name in a template."""
    source = (FOLDER / name).read_text(encoding="utf-8")
    given = meta.find_undeclared_variables(templates.environment(escape=False).parse(source))
    numbers = {"port": 2000, "seconds": 60}
    lists = {
        "stale": [ODD, "other"],
        "writes": ["true"],
        "package": PNPM,
        "node": NODE,
        "tool": TOOL,
        "npm": NPM,
    }
    return dict.fromkeys(given, ODD) | {
        key: value for key, value in (numbers | lists).items() if key in given
    }


@pytest.mark.parametrize(
    ("machine", "said", "slow"),
    [
        ("qemu", "Gateway failed to start: state lease heartbeat did not become ready (phase=startup)", True),
        ("kvm", "Gateway failed to start: state lease heartbeat did not become ready (phase=startup)", False),
        ("qemu", "Gateway failed to start: EADDRINUSE", False),
    ],
)
def test_a_gateway_that_is_too_slow(machine: str, said: str, *, slow: bool) -> None:
    """If OpenClaw's own time limit ends the gateway in an emulated VM, the error says that such a VM is too slow."""
    script = templates.render("guest/gateway-wait.sh.j2", url="x", seconds=1, unit="x.service", user="zed")
    stand_ins = f"""curl() {{ return 7; }}
as_user() {{ cat >/dev/null; return 1; }}
wait_for() {{ return 1; }}
journalctl() {{ echo {quote(said)}; }}
systemd-detect-virt() {{ echo {machine}; }}
"""
    done = subprocess.run(["bash", "-euc", stand_ins + script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(said)
    assert ("emulated, and too slow for OpenClaw" in done.stdout) is slow


def test_templates_are_clean(tmp_path: Path) -> None:
    """ShellCheck finds nothing in any shell template, in either form of it."""
    paths: dict[str, list[Path]] = {"sh": [], "bash": []}
    for name in NAMES:
        for flag in (False, True):
            path = tmp_path / f"{flag}-{Path(name).stem}"
            text = templates.render(name, **values(name) | {"development": flag})
            # A step's shell runs with these options.
            path.write_text(text if text.startswith("#!") else f"set -eu\n{text}", encoding="utf-8")
            paths["bash" if name == "guest/status.sh.j2" else "sh"].append(path)
    # SC2016: a value in single quotes is not to be expanded.
    program = Path(sys.executable).parent / "shellcheck"
    for shell, files in paths.items():
        done = subprocess.run(
            [program, "-s", shell, "-e", "SC2016", *files], capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
    assert sum(map(len, paths.values())) == 2 * len(NAMES) > 20


@pytest.mark.parametrize(
    ("value", "shell"),
    [
        ("plain", "plain"),
        (ODD, "'it'\"'\"'s $HOME\n`id` \"x\"'"),
        (["a b", "c"], "'a b' c"),
        ((), ""),
        ("", "''"),
        (7, "7"),
    ],
)
def test_filter(value: object, shell: str) -> None:
    """The filter `sh` makes one word of a value, and one word of each value of a list."""
    assert templates.environment(escape=False).from_string("{{ it | sh }}").render(it=value) == shell


def run(script: str, **environment: str) -> str:
    """Run shell with the prelude and return what it prints."""
    done = subprocess.run(
        ["sh", "-u"],
        input=f"{prelude()}\n{script}",
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with spaces, an installed OpenClaw, and Node."""
    made = tmp_path / "a home"
    package = made / "store" / "openclaw 1"
    for folder in (package, made / "bin", made / "checkout"):
        folder.mkdir(parents=True)
    (made / "bin" / "node").write_text("#!/bin/sh\n")
    (made / "bin" / "node").chmod(0o755)
    (made / "shim").write_text(f"#!/bin/sh\n# cmd-shim-target={package}/openclaw.mjs\n")
    return made


@pytest.mark.parametrize(
    ("text", "development", "fact"),
    [
        (None, False, "absent"),
        ("{node} {package}/dist/index.js gateway --port 2000", False, "current"),
        ("{node} {package}/dist/index.js gateway --port 2001", False, "old"),
        ("/usr/bin/old {package}/dist/index.js gateway --port 2000", False, "old"),
        ("{node} {checkout}/dist/index.js gateway --port 2000", False, "old"),
        ("{node} {checkout}/dist/index.js gateway --port 2000", True, "current"),
        ("{node} {package}/dist/index.js gateway --port 2000", True, "old"),
    ],
)
def test_unit_file(*, text: str | None, development: bool, fact: str, home: Path) -> None:
    """A unit file is current if it starts the installed program with the installed Node on the wanted port."""
    unit = home / "unit"
    if text:
        names = {
            "node": home / "bin" / "node",
            "package": home / "store" / "openclaw 1",
            "checkout": home / "checkout",
        }
        unit.write_text(f"[Service]\nExecStart={text.format(**names)}\n")
    script = templates.render(
        "guest/gateway-unit.sh.j2",
        development=development,
        checkout=str(home / "checkout"),
        shim=str(home / "shim"),
        unit_file=str(unit),
        port=2000,
    )
    assert run(script, PATH=f"{home}/bin:/usr/bin:/bin") == f"{fact}\n"


@pytest.mark.parametrize(
    ("answer", "record", "printed"),
    [
        (
            "offered 1.2.3 sha512-a",
            "version 1.2.3\nchannel latest\nintegrity sha512-a\n",
            "openclaw@latest is 1.2.3\n",
        ),
        ("unknown", None, "npm's registry has no openclaw@latest\n"),
        ("unanswered E500", None, "npm's registry does not say what openclaw@latest is: unanswered E500\n"),
    ],
)
def test_release(answer: str, record: str | None, printed: str, tmp_path: Path) -> None:
    """The version that the registry offers is recorded. Without one, the step fails with the reason."""
    folder = tmp_path / "a folder"
    script = templates.render(
        "guest/openclaw-release.sh.j2",
        asked="openclaw@latest",
        source="channel latest",
        folder=str(folder),
        record=str(folder / "record"),
    )
    stand_in = f'release_fact() {{ echo \'{answer}\'; }}\nput() {{ cat >"$1"; echo "$2 $3 $4" >"$1.mode"; }}'
    assert run(f"{stand_in}\n{script}") == printed
    assert (folder / "record").exists() is (record is not None)
    if record:
        assert (folder / "record").read_text() == record
        assert (folder / "record.mode").read_text() == "644 root root\n"


def test_checkout(tmp_path: Path) -> None:
    """A checkout follows its branch, and counts as built only for the commit that was built."""
    source, folder = tmp_path / "the source", tmp_path / "the checkout"
    commit = "-c user.name=t -c user.email=t@example.invalid commit -q --allow-empty -m"
    run(f"git init -q -b trunk '{source}'; cd '{source}'; git {commit} one; git branch next")
    for branch in ("trunk", "next"):
        source_values = {"folder": str(folder), "url": f"file://{source}", "branch": branch}
        guard = templates.render("guest/checkout-cloned.sh.j2", **source_values).strip()
        cloned = f"if {guard}; then echo yes; else echo no; fi"
        assert run(f"( {cloned} ) 2>/dev/null") == "no\n"
        run(f"set -e\n{templates.render('guest/checkout-clone.sh.j2', **source_values)}")
        assert run(cloned) == "yes\n"
    built = templates.render("guest/checkout-built.sh.j2", folder=str(folder)).strip()
    assert run(f"( if {built}; then echo yes; else echo no; fi ) 2>/dev/null") == "no\n"
    run(f"set -e; pnpm() {{ :; }}\n{templates.render('guest/checkout-build.sh.j2', folder=str(folder))}")
    assert run(f"if {built}; then echo yes; else echo no; fi") == "yes\n"


def test_token(tmp_path: Path) -> None:
    """The first configuration holds a token of 48 hexadecimal digits, and each guest has its own."""
    path = tmp_path / "openclaw.json"
    script = templates.render(
        "guest/openclaw-config.sh.j2", head='{"token": "', tail='"}\n', path=str(path), user="zed"
    )
    stand_in = 'put() { cat >"$1"; echo "$2 $3 $4"; }'
    found = set()
    for _ in range(2):
        assert run(f"{stand_in}\n{script}") == "600 zed zed\n"
        found.add(path.read_text())
    assert len(found) == 2
    token = found.pop().removeprefix('{"token": "').removesuffix('"}\n')
    assert (len(token), set(token) <= set("0123456789abcdef")) == (48, True)


@pytest.mark.parametrize(
    ("key", "asked"), [("tskey-'1'", "up --auth-key=file:"), ("", "up --auth-key=file:")]
)
def test_tailscale_key(key: str, asked: str, tmp_path: Path) -> None:
    """Tailscale reads its auth key from a file that is gone afterwards."""
    program = tmp_path / "tailscale"
    program.write_text('#!/bin/sh\necho "$1 ${2%/run/*} $3"; cat "${2#--auth-key=file:}"\n')
    program.chmod(0o755)
    script = templates.render("guest/tailscale-join.sh.j2", key=key).replace(
        "/run/swarm-", f"{tmp_path}/run/swarm-"
    )
    (tmp_path / "run").mkdir()
    printed = run(script, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert printed == f"{asked}{tmp_path} --timeout=60s\n{key}"
    assert list((tmp_path / "run").iterdir()) == []
