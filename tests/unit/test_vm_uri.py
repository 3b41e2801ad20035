"""Which libvirt URIs are remote, and which parameters a host file may set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.hypervisor.uri import Way, jump, remote
from swarm.inventory.uri import check

PLACES = [
    ("embedded", False, None),
    ("qemu:///system", False, None),
    ("qemu:///session", False, None),
    ("qemu+unix:///system?socket=/run/libvirt-sock", False, None),
    ("test:///default", False, None),
    ("qemu://box/system", True, None),  # without a transport, libvirt takes TLS
    ("qemu+tls://box/system", True, None),
    ("qemu+ssh://box/system", True, Way("ssh://box")),
    ("qemu+ssh://root@box:2222/system?keyfile=/k", True, Way("ssh://root@box:2222", Path("/k"))),
    ("qemu+libssh://root@box/system", True, Way("ssh://root@box")),
    ("qemu+libssh://box/system?known_hosts=/k%25%20+&no_tty=1", True, Way("ssh://box", None, Path("/k% +"))),
    ("qemu+libssh2://[fd00::1]/system", True, Way("ssh://[fd00::1]")),
]


@pytest.mark.parametrize(("uri", "elsewhere", "by"), PLACES)
def test_a_host_name_means_another_machine(uri: str, elsewhere: bool, by: Way | None) -> None:  # noqa: FBT001
    """A URI with a host name is remote, whatever its transport. Only SSH transports have a jump host."""
    assert (remote(uri), jump(uri)) == (elsewhere, by)


@pytest.mark.parametrize("uri", [place[0] for place in PLACES])
def test_these_uris_are_accepted(uri: str) -> None:
    """A host file may contain every URI of the table above."""
    assert check(uri) is None


@pytest.mark.parametrize(
    "parameter",
    [
        "keyfile=/home/ann/.ssh/id",
        "known_hosts=/etc/hosts.keys",
        "known_hosts_verify=normal",
        "mode=direct",
        "no_tty=1",
        "no_verify=0",
        "pkipath=/etc/pki/mine",
        "proxy=native",
        "socket=/run/libvirt/libvirt-sock",
        "sshauth=agent,privkey",
        "keyfile=/k&no_tty=1",
    ],
)
def test_harmless_parameters_are_accepted(parameter: str) -> None:
    """Parameters that neither run a program nor weaken a check are allowed."""
    assert check(f"qemu+ssh://box/system?{parameter}") is None


@pytest.mark.parametrize(
    "parameter",
    [
        "command=/tmp/x",
        "Command=/tmp/x",
        "%63ommand=/tmp/x",
        "keyfile=/k&command=/tmp/x",
        "keyfile=/k;command=/tmp/x",
        "netcat=/tmp/x",
        "name=qemu:///session",
        "no_sanity=1",
        "no_verify=1",
        "NO_VERIFY=1",
        "no_verify=0&no_verify=1",
        "known_hosts_verify=auto",
        "tls_priority=NORMAL:%2BANON-DH",
        "keyfile=relative",
        "mode=other",
        "socket=/a%00b",
        "keyfile=/k#&command=/tmp/x",
    ],
)
def test_dangerous_parameters_are_refused(parameter: str) -> None:
    """Parameters that could run a program, open another hypervisor or weaken a check are refused in any spelling."""
    assert check(f"qemu+ssh://box/system?{parameter}")


@pytest.mark.parametrize(
    "who", ["%2doProxyCommand=x@box", "-x@box", "-x", "$(x)@box", "a`b`@box", "b;x", "a%20b@box", "b$x"]
)
def test_names_that_ssh_could_misread_are_refused(who: str) -> None:
    """A user or host name that ssh or a shell could misinterpret is refused, encoded or not."""
    assert check(f"qemu+ssh://{who}/system")


ALLOWED = re.compile(
    "keyfile|known_hosts|known_hosts_verify|mode|no_tty|no_verify|pkipath|proxy|socket|sshauth"
)


def as_libvirt_reads(query: str) -> list[str]:
    """Return the keys that libvirt's virURIParseParams finds: it splits at '&', and at ';' where no '&' follows."""
    keys = []
    while query:
        end = query.find("&") if "&" in query else query.find(";")
        part, query = (query, "") if end < 0 else (query[:end], query[end + 1 :])
        keys.append(part.partition("=")[0].lower())
    return [key for key in keys if key]


@given(
    st.lists(
        st.sampled_from(("&", ";", "=", "/", "%6f", "x", "keyfile", "command", "no_tty", "=1", "=/k")),
        max_size=8,
    ).map("".join)
)
def test_what_is_accepted_holds_only_allowed_keys(query: str) -> None:
    """No query that passes the check has a key, as libvirt splits it, that is not on the list."""
    if check(f"qemu+ssh://box/system?{query}") is None:
        assert all(ALLOWED.fullmatch(key) for key in as_libvirt_reads(query))
