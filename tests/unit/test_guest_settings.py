"""What a host file may say about the inside of a guest, and what is refused before any guest is asked."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from swarm.errors import Refused
from swarm.guest.engine.difference import plan
from swarm.guest.engine.graph import check_names, levels
from swarm.guest.install.steps import steps
from swarm.guest.install.trust import certificates
from swarm.inventory.inside import Customize, InstallSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("nodejs_version", "22.x", "OpenClaw needs Node 24.16 or a later 24"),
        ("nodejs_version", "24.15.0", "OpenClaw needs Node 24.16 or a later 24"),
        ("nodejs_version", "26.0.0", "OpenClaw needs Node 24.16 or a later 24"),
        ("nodejs_version", "new", "expected a Node release line"),
        ("user", "Root User", "expected the name of an account"),
        ("port", 80, "greater than or equal to 1024"),
        ("colour", "blue", "Extra inputs are not permitted"),
        ("version", "$(reboot)", "expected an exact version"),
        ("channel", "latest; reboot", "expected a name of letters"),
    ],
)
def test_wrong_install_settings(field: str, value: object, message: str) -> None:
    """A wrong value is refused, with what was expected."""
    with pytest.raises(ValidationError, match=message):
        InstallSettings.model_validate({field: value})


@pytest.mark.parametrize("version", ["24.x", "24", "24.16.0", "26.1.0", "28.x"])
def test_accepted_node_versions(version: str) -> None:
    """A release line or version that OpenClaw accepts is accepted."""
    assert InstallSettings.model_validate({"nodejs_version": version}).nodejs_version == version


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"file": "/etc/x"}, "expected either content or source"),
        ({"file": "etc/x", "content": ""}, "absolute path"),
        ({"file": "/etc/x", "content": "", "mode": "rw"}, "file mode as text"),
        ({"command": "true"}, "expected either creates"),
        ({"command": "true", "unless": "true", "creates": "/x"}, "expected either creates"),
        ({"package": "Htop!"}, "name of a package"),
        ({"sysctl": "vm swappiness", "value": 1}, "expected the name of a kernel parameter"),
        ({"thing": 1}, "one of the keys file, sysctl, package or command"),
        ({"package": "htop", "version": "1"}, "Extra inputs"),
    ],
)
def test_wrong_customize_items(item: dict[str, Any], message: str) -> None:
    """A wrong item of the list is refused, with what was expected."""
    with pytest.raises(ValidationError, match=message):
        Customize.model_validate({"customize": [item]})


def test_missing_configuration(tmp_path: Path) -> None:
    """A configuration to start from that is missing or is not JSON is refused with its path."""
    path = tmp_path / "openclaw.json"
    settings = InstallSettings.model_validate({"config": str(path)})
    with pytest.raises(Refused, match=f"openclaw.config: {path} can't be read: No such file"):
        steps(settings)
    path.write_text("{ gateway: }")
    with pytest.raises(Refused, match=f"openclaw.config: {path} is not valid JSON"):
        steps(settings)
    path.write_bytes(b"\xff")
    with pytest.raises(Refused, match=f"openclaw.config: {path} can't be read: not UTF-8 text"):
        steps(settings)


def test_missing_authorities(tmp_path: Path) -> None:
    """A file of authorities that is missing, or holds no certificate, is refused with its path."""
    path = tmp_path / "proxy.pem"
    settings = InstallSettings.model_validate({"ca_certificates": [str(path)]})
    with pytest.raises(Refused, match=f"openclaw.ca_certificates: {path} can't be read: No such file"):
        steps(settings)
    path.write_text("no certificate")
    with pytest.raises(Refused, match=f"openclaw.ca_certificates: {path} holds no certificate"):
        steps(settings)


def test_authorities_of_this_machine(tmp_path: Path) -> None:
    """The word machine stands for every certificate that was added to this computer."""
    settings = InstallSettings.model_validate({"ca_certificates": ["machine"]})
    assert certificates(settings, tmp_path) == {}
    for name in ("one", "two"):
        _authority(tmp_path / "company" / f"{name}.crt")
    found = certificates(settings, tmp_path)
    assert len(found) == 2
    assert all(name.startswith("swarm-") and len(name) == len("swarm-") + 16 for name in found)
    assert all(pem.startswith("-----BEGIN CERTIFICATE-----") for pem in found.values())


def test_authorities_of_a_file(tmp_path: Path) -> None:
    """A file may hold several certificates, and each counts once."""
    for name in ("one", "two"):
        _authority(tmp_path / name)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "one").read_text() + (tmp_path / "two").read_text())
    named = InstallSettings.model_validate({"ca_certificates": [str(both), str(tmp_path / "one")]})
    assert len(certificates(named)) == 2


def _authority(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{path}.key")
    command = ("openssl", "req", "-x509", "-subj", f"/CN={path.stem}", *key, "-out", str(path))
    subprocess.run(command, check=True, capture_output=True)


def test_seeded_secrets_are_hidden(tmp_path: Path) -> None:
    """No text of a seeded configuration that may be a key is ever shown."""
    path = tmp_path / "openclaw.json"
    path.write_text('{"models": {"apiKey": "sk-very-secret-key"}, "mode": "local"}')
    found = steps(InstallSettings.model_validate({"config": str(path)}))
    assert "sk-very-secret-key" in {secret for step in found for secret in step.secrets}
    assert "sk-very-secret-key" not in repr(found)


@pytest.mark.parametrize("mode", ["release", "development"])
@pytest.mark.parametrize("node", ["nodesource", "npm", "distribution"])
@pytest.mark.parametrize("docker", ["docker.com", "distribution"])
@pytest.mark.parametrize("tailscale", [False, True])
def test_every_choice_fits_together(*, mode: str, node: str, docker: str, tailscale: bool) -> None:
    """Whatever is chosen, every step waits only for existing steps, and none is stated twice."""
    settings = InstallSettings.model_validate(
        {
            "install_mode": mode,
            "nodejs_source": node,
            "docker_source": docker,
            "tailscale_enabled": tailscale,
            "tailscale_authkey_env": "NO_SUCH_KEY",
        }
    )
    found = steps(settings)
    check_names(found)
    order = [step.subject for level in levels(found) for step in level]
    assert order[-1] == "gateway ready"


def test_every_refusal_at_once() -> None:
    """A guest with several shortcomings is refused with all of them, before anything is changed."""
    checks = steps(InstallSettings.model_validate({}))[:4]
    facts = {
        "system": "fedora 41 Fedora Linux 41",
        "architecture": "riscv64",
        "systemd": "no",
        "disk space": "no\n100",
    }
    with pytest.raises(Refused) as caught:
        plan("zap", checks, facts)
    for message in ("Fedora Linux 41", "riscv64", "not started by systemd", "100 MiB free"):
        assert message in str(caught.value)
