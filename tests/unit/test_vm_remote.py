"""What a remote hypervisor's machine answers, and what follows from it for shares, pools and filters."""

from __future__ import annotations

import os
import subprocess
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from swarm.vm import egress
from swarm.vm.answer import Above, Answer, Entry, Malformed, User, parse, script, searchable
from swarm.vm.folders import pool_problem
from swarm.vm.remote import Found, paths_of
from swarm.vm.share import open_to_others, share_problem
from tests import samples
from tests.unit.facts import NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from tests.conftest import Dirs

URI = "qemu+ssh://root@box/system"
# All that is asked of a connection to another machine before libvirt is.
BOX = cast("Libvirt", SimpleNamespace(local=False, uri=URI, embedded=None))


@pytest.fixture
def far(dirs: Dirs) -> Host:
    """A host on another machine."""
    assert dirs.hosts.is_dir()
    return samples.host(uri=URI, source="/data/share", disk_path="/data/vms/zap.qcow2")


def found(path: str, **fields: Any) -> Found:
    """Return an answer about one path."""
    return Found(Answer({path: Entry(**fields)}, home="/home/ann"))


def test_the_script_and_its_answer_fit(tmp_path: Path) -> None:
    """What the script prints for a real folder is understood."""
    (tmp_path / "x").touch()
    paths = (str(tmp_path), f"{tmp_path}/x/y")
    done = subprocess.run(["sh"], input=script(paths).encode(), capture_output=True, check=True)
    answer = parse(done.stdout.splitlines(), paths)
    folder, beyond = (answer.paths[path] for path in paths)
    assert (done.stderr, folder.kind, folder.names, folder.real) == (
        b"",
        "folder",
        ("x",),
        os.path.realpath(tmp_path),
    )
    assert folder.above[0].path == "/"
    assert folder.above[-1].mode & 0o777 == tmp_path.stat().st_mode & 0o777
    assert beyond.kind == "missing"
    assert answer.home


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"kind folder"],
        [b"path 7"],
        [b"path 0", b"kind door"],
        [b"path 0", b"free much"],
        [b"path 0", b"above 9999 0 0 /"],
        [b"path 0", b"wherever"],
        [b"path 0", b"address 300.1.1.1"],
        [b"path 0", b"user"],
        [b"\xff\x00"],
    ],
)
def test_a_malformed_answer_is_none(lines: list[bytes]) -> None:
    """What the script never prints is refused, and nothing of it is used."""
    with pytest.raises(Malformed):
        parse(lines, ["/srv"])


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (None, None),
        (Found(problem="no shell"), None),
        (found("/data/share", kind="hidden"), None),
        (found("/data/share", kind="folder", real="/data/share"), None),
        (found("/data/share", kind="missing"), "/data/share does not exist on box"),
        (found("/data/share", kind="other"), "/data/share is not a folder on box"),
        (
            found("/data/share", kind="folder", real="/etc"),
            "/data/share leads to /etc on box, a folder of the system",
        ),
    ],
)
def test_what_is_wrong_with_a_share(far: Host, machine: Found | None, problem: str | None) -> None:
    """A share is a problem only if the machine says so; what it does not say is no problem."""
    assert share_problem(far, BOX, machine) == problem


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (None, ""),
        (Found(problem="no shell"), ""),
        (found("/data/vms", kind="missing"), ""),
        (found("/data/vms", kind="hidden", names=("x",)), ""),
        (found("/data/vms", kind="folder", real="/data/vms", names=("lost+found",)), ""),
        (found("/data/vms", kind="folder", real="/data/vms", names=("x",)), "holds files such as 'x'"),
        (found("/data/vms", kind="folder", real="/usr/lib"), "leads to /usr/lib, a folder of the system"),
        (found("/data/vms", kind="folder", real="/home/ann"), "is your home directory"),
    ],
)
def test_what_is_wrong_with_a_pool(machine: Found | None, problem: str) -> None:
    """Strangers, links to the system and the login's home are seen on another machine too."""
    wrong = pool_problem(PurePosixPath("/data/vms"), BOX, machine)
    assert problem in (wrong[0] if wrong else "")
    assert bool(wrong) is bool(problem)


@pytest.mark.parametrize(
    ("folder", "users", "expected"),
    [
        (Above("/", 0o755, 0, 0), [], True),
        (Above("/a", 0o700, 0, 0), [], False),
        (Above("/a", 0o700, 64055, 0), [User(64055, frozenset())], True),
        (Above("/a", 0o071, 64055, 0), [User(64055, frozenset())], False),
        (Above("/a", 0o710, 0, 7), [User(64055, frozenset({7}))], True),
        (Above("/a", 0o701, 0, 7), [User(64055, frozenset({7}))], False),
        (Above("/a", 0o711, 0, 7), [User(64055, frozenset({8}))], True),
    ],
)
def test_who_can_search_a_folder(folder: Above, users: list[User], *, expected: bool) -> None:
    """The owner's bit counts for the owner, the group's for its members, and the last one for all others."""
    assert searchable(folder, users) is expected


@pytest.mark.parametrize(("mode", "real", "expected"), [
    (0o755, "/data/share", True),
    (0o700, "/data/share", False),
    (0o755, "/vault/share", False),
])  # fmt: skip
def test_who_else_can_enter_a_share(far: Host, mode: int, real: str, *, expected: bool) -> None:
    """A share is open to others if each folder down to it is; where a link leads is not known."""
    above = (Above("/", 0o755, 0, 0), Above("/data", mode, 0, 0))
    machine = found("/data/share", kind="folder", real=real, above=above)
    assert open_to_others(far, BOX, machine) is expected


def test_which_paths_are_asked(far: Host) -> None:
    """Each folder is asked about once, however many hosts name it."""
    other = samples.variant(far, name="yak", disk_path="/data/vms/yak.qcow2", virtiofs=None)
    assert paths_of([far, other]) == ("/data/share", "/data/vms")


OWN, REACHED, BEFORE = map(IPv4Address, ("198.51.100.4", "203.0.113.9", "198.51.100.77"))
SAYS = Answer(addresses=frozenset([OWN, IPv4Address("10.0.0.2")]))


@pytest.mark.parametrize(
    ("machine", "expected", "doubt"),
    [
        (Found(SAYS, reached=frozenset([OWN])), {OWN}, ""),
        (Found(SAYS, reached=frozenset([REACHED])), {OWN, REACHED}, ""),
        (Found(SAYS, reached=None), {OWN, BEFORE}, ""),
        (Found(problem="timed out", reached=frozenset([REACHED])), {REACHED, BEFORE}, "timed out"),
        (Found(Answer(), reached=frozenset()), {BEFORE}, "it does not list its addresses"),
        (Found(problem="TLS", asked=False, reached=frozenset([REACHED])), {REACHED}, "TLS"),
        (Found(problem="TLS", asked=False), {BEFORE}, "TLS"),
    ],
)
def test_which_addresses_of_a_hypervisor_are_closed(
    far: Host, machine: Found, expected: set[IPv4Address], doubt: str
) -> None:
    """Its own and those at which it is reached. If one of them is unknown this time, none is opened again."""
    present = egress.filter_xml(far, NETWORK, [BEFORE])
    assert egress.addresses(machine, present) == expected
    assert egress.addresses(machine, None) == expected - {BEFORE}
    assert egress.doubt(machine) == doubt


@pytest.mark.parametrize("missing", [{"answer": None, "problem": "timed out"}, {"reached": None}])
def test_a_missing_answer_changes_no_filter(far: Host, missing: dict[str, Any]) -> None:
    """A filter that was made with all answers stays as it is while one of them is missing."""
    complete = Found(SAYS, reached=frozenset([REACHED]))
    xml = egress.filter_xml(far, NETWORK, egress.addresses(complete, None))
    less = Found(**{"answer": SAYS, "reached": frozenset([REACHED]), **missing})
    assert egress.same(egress.filter_xml(far, NETWORK, egress.addresses(less, xml)), xml)
