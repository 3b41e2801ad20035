"""What a host file may say about the inside of a guest, and how the report of a verification is read."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from swarm.errors import Refused
from swarm.guest.customize import steps as customize_steps
from swarm.guest.engine.converge import plan
from swarm.guest.install.steps import steps as install_steps
from swarm.guest.install.trust import certificates
from swarm.guest.verify import count, read_report
from swarm.inventory.inside import Customize, InstallSettings, Share

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("nodejs_version", "22.x", "OpenClaw needs Node 24 from 24.16 on"),
        ("nodejs_version", "24.15.0", "OpenClaw needs Node 24 from 24.16 on"),
        ("nodejs_version", "26.0.0", "OpenClaw needs Node 24 from 24.16 on"),
        ("nodejs_version", "new", "expected a Node release line"),
        ("user", "Root User", "should match pattern"),
        ("port", 80, "greater than or equal to 1024"),
        ("colour", "blue", "Extra inputs are not permitted"),
        ("version", "$(reboot)", "should match pattern"),
        ("channel", "latest; reboot", "should match pattern"),
    ],
)
def test_wrong_install_settings(field: str, value: object, words: str) -> None:
    """A wrong value is refused with what was expected."""
    with pytest.raises(ValidationError, match=words):
        InstallSettings.model_validate({field: value})


@pytest.mark.parametrize("version", ["24.x", "24", "24.16.0", "26.1.0", "28.x"])
def test_node_versions_that_do(version: str) -> None:
    """Every release line and version that OpenClaw accepts is accepted."""
    assert InstallSettings.model_validate({"nodejs_version": version}).nodejs_version == version


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"file": "/etc/x"}, "expected either content or source"),
        ({"file": "etc/x", "content": ""}, "absolute path"),
        ({"file": "/etc/x", "content": "", "mode": "rw"}, "file mode as text"),
        ({"command": "true"}, "expected either unless"),
        ({"command": "true", "unless": "true", "creates": "/x"}, "expected either unless"),
        ({"package": "Htop!"}, "name of a package"),
        ({"sysctl": "vm swappiness", "value": 1}, "should match pattern"),
        ({"thing": 1}, "one of the keys file, sysctl, package or command"),
        ({"package": "htop", "version": "1"}, "Extra inputs"),
    ],
)
def test_wrong_customize_items(item: dict[str, Any], words: str) -> None:
    """A wrong item of the list is refused with what was expected."""
    with pytest.raises(ValidationError, match=words):
        Customize.model_validate({"customize": [item]})


def test_same_file_twice() -> None:
    """The same file stated twice is refused when the steps are put together, before any host is asked."""
    from swarm.guest.engine.converge import _check_names

    settings = Customize.model_validate(
        {"customize": [{"file": "/etc/x", "content": "1"}, {"file": "/etc/x", "content": "2"}]}
    )
    with pytest.raises(Refused, match="file /etc/x is stated twice"):
        _check_names(customize_steps(settings, None, "openclaw"))


def test_missing_source(tmp_path: Path) -> None:
    """A source that is missing, or is no text, is refused with its path."""
    for name, content in (("missing", None), ("binary", b"\xff\xfe\0")):
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        settings = Customize.model_validate({"customize": [{"file": "/etc/x", "source": str(path)}]})
        with pytest.raises(Refused, match=f"its source {path} can't be read"):
            customize_steps(settings, None, "openclaw")


def test_missing_configuration(tmp_path: Path) -> None:
    """A configuration to start from that is missing or is not JSON is refused with its path."""
    path = tmp_path / "openclaw.json"
    with pytest.raises(Refused, match="can't be read"):
        install_steps(InstallSettings.model_validate({"config": str(path)}))
    path.write_text("{ gateway: }")
    with pytest.raises(Refused, match="is not valid JSON"):
        install_steps(InstallSettings.model_validate({"config": str(path)}))


def test_authorities(tmp_path: Path) -> None:
    """A file of authorities that is missing, or holds no certificate, is refused with its path before any host is asked."""
    path = tmp_path / "proxy.pem"
    settings = InstallSettings.model_validate({"ca_certificates": [str(path)]})
    with pytest.raises(Refused, match=f"openclaw.ca_certificates: {path} can't be read: No such file"):
        install_steps(settings)
    path.write_text("no certificate")
    with pytest.raises(Refused, match=f"openclaw.ca_certificates: {path} holds no certificate"):
        install_steps(settings)


def test_authorities_of_this_machine(tmp_path: Path) -> None:
    """The word machine stands for every certificate that was added to this computer, however many there are."""
    settings = InstallSettings.model_validate({"ca_certificates": ["machine"]})
    assert certificates(settings, tmp_path) == {}
    (tmp_path / "company").mkdir()
    for name in ("one", "two"):
        run = (
            "openssl",
            "req",
            "-x509",
            "-subj",
            f"/CN={name}",
            "-nodes",
            "-newkey",
            "rsa:2048",
            "-keyout",
            str(tmp_path / "key"),
        )
        subprocess.run(
            [*run, "-out", str(tmp_path / "company" / f"{name}.crt")], check=True, capture_output=True
        )
    assert len(certificates(settings, tmp_path)) == 2


def test_seeded_secrets_are_hidden(tmp_path: Path) -> None:
    """No text of a seeded configuration that may be a key is ever shown."""
    path = tmp_path / "openclaw.json"
    path.write_text('{"models": {"apiKey": "sk-very-secret-key"}, "mode": "local"}')
    steps = install_steps(InstallSettings.model_validate({"config": str(path)}))
    assert "sk-very-secret-key" in {secret for step in steps for secret in step.secrets}
    assert "sk-very-secret-key" not in repr(steps)


@pytest.mark.parametrize("mode", ["release", "development"])
@pytest.mark.parametrize("node", ["nodesource", "npm", "distribution"])
@pytest.mark.parametrize("docker", ["docker.com", "distribution"])
@pytest.mark.parametrize("tailscale", [False, True])
def test_every_choice_fits_together(mode: str, node: str, docker: str, tailscale: bool) -> None:  # noqa: FBT001 - a column of the table
    """Whatever is chosen, every step waits only for steps that exist, and none is stated twice."""
    from swarm.guest.engine.converge import _check_names, _levels

    settings = InstallSettings.model_validate(
        {
            "install_mode": mode,
            "nodejs_source": node,
            "docker_source": docker,
            "tailscale_enabled": tailscale,
            "tailscale_authkey_env": "NO_SUCH_KEY",
        }
    )
    steps = install_steps(settings)
    _check_names(steps)
    order = [step.subject for level in _levels(steps) for step in level]
    assert order[-1] == "gateway ready"


def test_share() -> None:
    """A share brings its line of fstab and its mount; without one there is neither."""
    with_share = {
        step.subject
        for step in customize_steps(
            Customize.model_validate({}), Share(tag="swarm", target="/mnt/swarm"), "openclaw"
        )
    }
    without = {step.subject for step in customize_steps(Customize.model_validate({}), None, "openclaw")}
    assert with_share - without == {"fstab /mnt/swarm", "mount /mnt/swarm"}


def test_wrong_system() -> None:
    """An unknown system and a full disk are both named at once, before anything is changed."""
    checks = install_steps(InstallSettings.model_validate({}))[:4]
    facts = {
        "system": "fedora 41 Fedora Linux 41",
        "architecture": "riscv64",
        "systemd": "no",
        "disk space": "no\n100",
    }
    with pytest.raises(Refused) as caught:
        plan("zap", checks, facts)
    for words in ("Fedora Linux 41", "riscv64", "not started by systemd", "100 MiB free"):
        assert words in str(caught.value)


def test_report() -> None:
    """A report is read as promises: kept, broken with what was found, skipped with the reason."""
    cases = (
        ("It holds.", ""),
        ("It breaks.", '<failure message="AssertionError: found 3&#10;more">x</failure>'),
        ("It waits.", '<skipped message="Skipped: no TPM"/>'),
    )
    named = "<properties><property name='promise' value='{}'/></properties>"
    xml = "".join(f"<testcase name='x'>{named.format(text)}{result}</testcase>" for text, result in cases)
    xml = f"<testsuites><testsuite>{xml}<testcase name='d'><error message='failed on setup'/></testcase></testsuite></testsuites>"
    found = read_report(xml)
    rows = [promise.row for promise in found]
    assert rows == [
        ("✓", "It holds.", ""),
        ("✗", "It breaks.", "found 3"),
        ("–", "It waits.", "no TPM"),
        ("✗", "d", "failed on setup"),
    ]
    assert count(found) == "4 promises: 1 kept, 2 broken, 1 skipped"
    assert count([]) == "0 promises: 0 kept"
