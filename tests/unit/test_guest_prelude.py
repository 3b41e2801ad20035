"""The shell functions that probes share, with a real sh. tests/nspawn runs them on a real host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.guest.engine.script import as_user, opening, prelude
from swarm.text import quote
from tests.model_guest import shell

PRELUDE = prelude()  # as hosts get it


def recalled(tables: str, script: str) -> str:
    """Run functions of the prelude with prepared tables, and return their output."""
    return shell(f"{PRELUDE}\n{tables}\n{script}").decode()


def test_as_user_hides_the_script() -> None:
    """A script for another user goes through a pipe, not through an argument."""
    assert as_user("zed", "echo hidden").endswith("| as_user zed")


ENVIRONMENT = """# a comment
https_proxy=http://10.0.0.1:3128
  export no_proxy="localhost, 10.0.0.0/8"\t
quoted='$(touch injected)'
PATH=/evil
LD_PRELOAD=/evil.so
bad-name=x
=x
swarm_prelude=x
nonsense
UID=0
last=end"""


def test_environment_of_the_system(tmp_path: Path) -> None:
    """What /etc/environment gives to every login reaches scripts too, as text, except what swarm sets itself."""
    path = tmp_path / "environment"
    path.write_text(ENVIRONMENT)
    functions = PRELUDE.replace("/etc/environment", str(path))
    names = ("https_proxy", "no_proxy", "quoted", "PATH", "LD_PRELOAD", "last")
    shown = "\n".join(f'echo "${{{name}-none}}"' for name in names)
    found = (
        shell(f"cd {tmp_path}\n{functions}\nPATH=/bin\nset -eu\nsystem_environment\n{shown}")
        .decode()
        .splitlines()
    )
    assert found == [
        "http://10.0.0.1:3128",
        "localhost, 10.0.0.0/8",
        "$(touch injected)",
        "/bin",
        "none",
        "end",
    ]
    assert not (tmp_path / "injected").exists()
    path.unlink()
    assert shell(f"{functions}\nset -eu\nsystem_environment\necho on") == b"on\n"


def test_every_script_has_the_environment_of_the_system() -> None:
    """A script of root and one of a user begin with what /etc/environment gives, so a proxy is used by both."""
    for script in (opening("mark"), opening("mark", changing=True)):
        assert script.split('eval "$swarm_prelude"\n')[1].startswith("system_environment\n")
    assert "'system_environment\nset -eu\n" in as_user("zed", "true")


@pytest.mark.parametrize(
    ("parent", "code"),
    [
        ("0 0 drwxr-xr-x", 0),
        ("0 5 drwxr-xr-x", 0),
        ("0 5 drwxrwxr-x", 1),
        ("0 0 drwxrwxrwt", 0),
        ("7 0 drwxr-xr-x", 1),
    ],
)
def test_known_folders(parent: str, code: int) -> None:
    """Who decides where a path leads is recalled for all its known folders, and no program is started again."""
    seen = "755 root root directory 0\t"
    table = f"states_table='\n/\t{seen}0 0 drwxr-xr-x\n/x\t{seen}{parent}\n/x/y\t{seen}0 0 drwxr-xr-x\n'"
    stat = "stat() { echo started; }"
    twice = "root_only /x/y; echo $?; root_only /x/y; echo $?"
    assert recalled(table, f"{stat}\n{twice}") == f"{code}\n{code}\n"
    assert recalled("", "known_files / /missing\nstat() { :; }\nroot_only /; echo $?") == "0\n"
    assert recalled(table, f"{stat}\nfolder_fact /x/y; file_fact /x/y none") == (
        "directory 755 root root\nother 755 root root directory\n"
    )
    assert recalled(table, "root_only /x/missing; echo $?") == f"{1 if parent.endswith('t') else code}\n"


def test_known_settings(tmp_path: Path) -> None:
    """The first line of each setting is recalled as it is. One that can't be read is unknown."""
    values = {"spaced": " 4\t8 ", "empty": "", "two": "1\n2"}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n", encoding="utf-8")
    files = quote(*(str(tmp_path / name) for name in (*values, "missing")))
    facts = "; ".join(f"setting_fact {tmp_path}/{name}" for name in (*values, "missing"))
    assert recalled("", f"known_settings {files}\n{facts}") == " 4\t8 \n\n1\nunknown\n"
    real = "/proc/sys/kernel/pid_max"  # which the kernel gives to one read only, so not byte by byte
    assert recalled("", f"known_settings {real}\nsetting_fact {real}") == Path(real).read_text(
        encoding="ascii"
    )


def test_known_units() -> None:
    """A unit's state is found under each of its names, and under no part of one."""
    tables = (
        "units_table='Names=a.service b.service\nActiveState=active\n\nNames=ab.service\nActiveState=failed'"
    )
    assert recalled(tables, "unit_fact b.service") == "Names=a.service b.service\nActiveState=active\n"
    assert recalled(tables, "unit_fact ab.service") == "Names=ab.service\nActiveState=failed\n"
    assert recalled(tables, "unit_fact c.service") == ""


@pytest.mark.parametrize(
    ("name", "group", "answer"),
    [("zed", "makers", "yes"), ("zed", "zed", "yes"), ("ze", "makers", "no"), ("zed", "x", "no")],
)
def test_members(name: str, group: str, answer: str) -> None:
    """A member of a group is listed by the group, or has it as the primary group."""
    users, groups = "zed:x:7:70::/home/zed:/bin/sh\nze:x:8:80::/:/bin/sh", "makers:x:9:ann,zed\nzed:x:70:"
    tables = f"users_table='\n{users}\n' groups_table='\n{groups}\n'"
    assert recalled(tables, f"member_fact {name} {group}") == f"{answer}\n"


@pytest.mark.parametrize(
    ("choices", "asked"),
    [
        (("jq",), False),
        (("jq", "vim"), True),
        (("docker-cli|docker.io",), False),
        (("docker-buildx|",), False),
        (("x|y",), True),
    ],
)
def test_apt_is_asked_only_if_necessary(choices: tuple[str, ...], asked: bool) -> None:  # noqa: FBT001
    """apt, which is slow, is asked for candidates only if a required package is missing."""
    tables = "packages_table='\njq\tinstalled 1.6\nvim\tconfig-files 2\ndocker.io\tinstalled 20\n'"
    offer = "shift 2; for name; do printf '%s:\\n  Candidate: 3\\n' \"$name\"; done"
    stand_ins = f"find() {{ echo _Packages; }}; apt_cache() {{ {offer}; }}"
    script = PRELUDE.replace("apt-cache policy", "apt_cache policy")
    said = shell(f"{script}\n{tables}\n{stand_ins}\nask=0\npackages_candidates 0 {quote(*choices)}").decode()
    names = [name for choice in choices for name in choice.split("|") if name]
    assert said == ("lists\n" + "".join(f"candidate {name} 3\n" for name in names) if asked else "")


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_interrupted_packages_are_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted run left unpacked is configured once another dpkg has ended, and a changed file stays."""
    root, admin = tmp_path / "root", tmp_path / "root/var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (admin / name).mkdir(parents=True)
    (admin / "status").touch()
    monkeypatch.setenv("DPKG_ROOT", str(root))
    monkeypatch.setenv("DPKG_ADMINDIR", str(admin))
    monkeypatch.setenv("DPKG_FORCE", "not-root,bad-path")
    for version, order in (("1", "--install"), ("2", "--unpack")):
        subprocess.run(["dpkg", order, package(tmp_path, version)], check=True, capture_output=True)
        if version == "1":
            (root / "etc/tool.conf").write_text("mine\n")
    command = [sys.executable, "-c", HOLDER, str(admin / "lock-frontend")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        # The other one ends while this one waits.
        waits = f"sleep() {{ kill {holder.pid}; command sleep 0.1; }}"
        shell(f"{PRELUDE}\n{waits}\nset -eu\ndpkg_configure </dev/null")
    assert "Status: install ok installed" in (admin / "status").read_text()
    assert "Version: 2" in (admin / "status").read_text()
    assert (root / "etc/tool.conf").read_text() == "mine\n"


def test_only_an_update_of_the_package_lists_has_a_limit(tmp_path: Path) -> None:
    """A hung apt-get update is ended, and the script goes on with the lists it has. An installation has no limit."""
    for name, text in (("apt-get", 'echo "called $*"'), ("timeout", 'echo "limited $*"; exit 124')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    own = f"PATH={tmp_path}:$PATH\nset -eu"
    lists, other = (
        shell(f"{PRELUDE}\n{own}\n{each}").decode().splitlines() for each in ("apt_lists", "apt install")
    )
    assert lists[0].startswith("limited -k 10 900 apt-get -q -y ")
    assert lists[0].endswith(" update")
    assert lists[1].startswith("some package sources failed")
    assert other[0].startswith("called -q -y ")


def package(folder: Path, version: str) -> str:
    """Make a Debian package with a configuration file, and return its path."""
    tree, path = folder / f"tool-{version}", str(folder / f"tool-{version}.deb")
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "etc").mkdir()
    (tree / "etc/tool.conf").write_text(f"of version {version}\n")
    (tree / "DEBIAN/conffiles").write_text("/etc/tool.conf\n")
    (tree / "DEBIAN/control").write_text(
        f"Package: tool\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(tree), path], check=True, capture_output=True
    )
    return path


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))),
    st.sampled_from([1, 100]),
)
def test_content_is_exact(content: bytes, times: int) -> None:
    """A file's fact is its exact content, whether small or large, text or binary."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content * times)
        file.flush()
        name = quote(file.name)
        fact = shell(f"{PRELUDE}\nknown_files {name}\nfile_fact {name} none")
    assert fact.partition(b"\n")[2] == content * times


@pytest.mark.parametrize("name", ["plain", "with blank", "back\\slash", "star*", "new\nline"])
def test_known_files(tmp_path: object, name: str) -> None:
    """A file's fact does not depend on an earlier lookup with other files, whatever its name."""
    path = f"{tmp_path}/{name}"
    with open(path, "w") as file:  # noqa: PTH123 - tmp_path as text, for the shell
        file.write("content\n")
    alone = recalled(
        "",
        f"file_fact {quote(path)} none; files_sum {quote(path, '/missing')}; folder_fact {quote(str(tmp_path))}",
    )
    known = recalled(
        "",
        f"known_files {quote('/missing', path, str(tmp_path))}\n"
        f"file_fact {quote(path)} none; files_sum {quote(path, '/missing')}; folder_fact {quote(str(tmp_path))}",
    )
    assert known == alone
    assert alone.startswith("file 644 ")


@pytest.mark.parametrize(
    ("program", "script", "seconds", "reason"),
    [
        (
            "/usr/lib/apt/apt-helper",
            "key_fact /nonexistent http://{}/key",
            "http::Timeout=20",
            "key \nfailed E: ",
        ),
        ("npm", "npm_config_registry=http://{}/ release_fact claw@latest", ":-50000}", "unanswered npm err"),
    ],
    ids=["key", "release"],
)
def test_a_server_that_is_silent(program: str, script: str, seconds: str, reason: str) -> None:
    """The wait for a vendor's key or npm's registry ends by itself, after at most four times the limit, here 1 s."""
    if not shutil.which(program):
        pytest.skip(f"{program} is missing")
    limit = seconds.replace("20", "1").replace("50000", "1000")
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody accepts, so nobody answers
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            ["sh"],
            input=f"{PRELUDE.replace(seconds, limit)}\n{script.format(address)}\n",
            env=own,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert done.stdout.lower().startswith(reason.lower())
