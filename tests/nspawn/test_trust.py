"""Certificate authorities beyond the distribution's own, with a real HTTPS server whose certificate the test makes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.guest.engine.converge import converge
from swarm.guest.install.trust import authorities, certificates
from swarm.inventory.inside import InstallSettings
from tools.lab import Machine, World, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.console import Talk
    from swarm.ssh.guest import Guest

pytestmark = pytest.mark.slow

SERVER = """
import http.server, ssl, sys
server = http.server.HTTPServer(("10.77.0.1", 8443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("up", flush=True)
server.serve_forever()
"""


@pytest.fixture
def certificate(world: World, machine: Machine, tmp_path: Path) -> Iterator[Path]:
    """The certificate of a server at https://10.77.0.1:8443, which no machine trusts yet."""
    assert machine in world.machines
    path, key = tmp_path / "proxy.pem", tmp_path / "proxy.key"
    options = (
        "-subj",
        "/CN=proxy",
        "-addext",
        "subjectAltName=IP:10.77.0.1",
        "-days",
        "2",
        "-nodes",
        "-newkey",
        "rsa:2048",
    )
    run("openssl", "req", "-x509", *options, "-keyout", key, "-out", path)
    server = subprocess.Popen(
        world.inside(sys.executable, "-c", SERVER, path, key),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    try:
        yield path
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def answers(machine: Machine) -> bool:
    """Return whether the guest trusts the server."""
    return (
        machine.ssh("curl -sS -o /dev/null -m 5 https://10.77.0.1:8443/ 2>/dev/null && echo yes || echo no")
        == "yes\n"
    )


def test_an_authority_comes_and_goes(certificate: Path, machine: Machine, guest: Guest, talk: Talk) -> None:
    """The guest and its Node trust an authority as long as the host file names it."""
    named = certificates(InstallSettings.model_validate({"ca_certificates": [str(certificate)]}))
    assert not answers(machine)
    try:
        converge(guest, authorities(named), talk)
        assert answers(machine)
        assert not converge(guest, authorities(named), talk)
        assert (
            machine.ssh("tail -n1 /etc/environment")
            == "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n"
        )
    finally:
        converge(guest, authorities({}), talk)
    assert not answers(machine)
    assert not converge(guest, authorities({}), talk)


def test_a_set_up_that_was_cut_short(certificate: Path, machine: Machine, guest: Guest, talk: Talk) -> None:
    """A certificate that an interrupted run left out of the system's list is added to it by the next run."""
    ((name, pem),) = certificates(
        InstallSettings.model_validate({"ca_certificates": [str(certificate)]})
    ).items()
    machine.ssh(f"printf %s '{pem}' >/usr/local/share/ca-certificates/{name}.crt")
    try:
        assert (
            next(change.subject for change in converge(guest, authorities({name: pem}), talk))
            == "certificate authorities"
        )
        assert answers(machine)
    finally:
        converge(guest, authorities({}), talk)
