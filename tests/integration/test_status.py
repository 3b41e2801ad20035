"""`inv status` against OpenSSH's own server and libvirt's test driver, as a person and a script call it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from swarm import history, ssh
from swarm.backup import record
from swarm.backup.record import Record
from swarm.paths import ROOT
from tests.conftest import Dirs
from tests.fleet import Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")

NAMES = ("ant", "bee", "cow")
AGENTMON = "agentmon:\n  url: http://192.168.122.1:8080\n"


@pytest.fixture(scope="module")
def herd(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts that one server plays."""
    with pytest.MonkeyPatch.context() as patch:
        dirs = Dirs.make(base / "herd", patch)
        with fleet(tmp_path_factory.mktemp("herd"), dirs, NAMES, extra=AGENTMON) as made:
            yield made


def test_every_host_has_its_facts(herd: Fleet) -> None:
    """One run finds the VM, the login, the gateway and the disk of each host. JSON says what to do, with a command."""
    ran = herd.inv("status", "--json")
    assert [each["host"] for each in ran.data] == list(NAMES)
    for each in ran.data:
        assert (each["vm"], each["ssh"], each["pinned"], each["error"]) == ("running", "ok", True, None)
        assert (each["gateway"], each["openclaw"]) == ("no answer", "")
        assert 0 < each["disk_used_ratio"] <= 1
        assert {"what", "command"} == set(each["actions"][0])
    assert ran.code == 1  # the test driver's VMs differ from their host files


def test_the_table_names_the_command_to_type(herd: Fleet) -> None:
    """Without a terminal only the final table is printed, and under it a line for each thing to do."""
    ran = herd.inv("status", "--host", "bee")
    head, row, *todo = ran.out.splitlines()
    assert head.split()[:6] == ["host", "VM", "acceleration", "ip", "SSH", "drift"]
    assert row.split()[:5] == ["bee", "running", "emulation", "192.168.122.3", "ok"]
    assert todo[0].startswith("bee: the VM differs from its host file: ")
    assert todo[0].endswith(" → ./inv provision --host bee --plan")
    assert ran.err == ""


def test_each_look_logs_in_afresh(herd: Fleet) -> None:
    """A connection that is kept open neither spares a look its login, nor is it ended by the look."""
    keep = "from swarm.access import guest; guest('bee').run('true')"
    enter = herd.command()[:2]
    subprocess.run(
        [*enter, sys.executable, "-P", "-c", keep],
        env={**herd.environment, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    before = herd.server.log().count("Accepted publickey")
    assert herd.inv("status", "--host", "bee", "--json").data[0]["ssh"] == "ok"
    assert herd.server.log().count("Accepted publickey") == before + 1
    subprocess.run(
        [*enter, sys.executable, "-P", "-c", keep],
        env={**herd.environment, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert herd.server.log().count("Accepted publickey") == before + 1


def test_another_host_key_is_seen(herd: Fleet) -> None:
    """A host that presents another key than the pinned one is named, and the others are not affected."""
    pins = herd.dirs.hosts / "cow.known_hosts"
    pinned = pins.read_text(encoding="utf-8")
    ssh.pin(pins, ["cow"], ssh.keypair("")[1])
    try:
        found = {each["host"]: each for each in herd.inv("status", "--json").data}
    finally:
        pins.write_text(pinned, encoding="utf-8")
    assert {name: each["ssh"] for name, each in found.items()} == {
        "ant": "ok",
        "bee": "ok",
        "cow": "other host key",
    }
    assert "./inv pin --host cow if you changed it" in {each["command"] for each in found["cow"]["actions"]}


def test_a_host_without_a_pin_is_not_asked(herd: Fleet) -> None:
    """Nothing is sent to a machine whose key is not pinned."""
    pins = herd.dirs.hosts / "cow.known_hosts"
    pinned = pins.read_text(encoding="utf-8")
    pins.unlink()
    try:
        (found,) = herd.inv("status", "--host", "cow", "--json").data
    finally:
        pins.write_text(pinned, encoding="utf-8")
    assert (found["ssh"], found["pinned"], found["disk_used_ratio"]) == ("no pinned key", False, None)


def test_broken_files_and_hypervisors_hide_no_host(herd: Fleet) -> None:
    """A broken host file and a hypervisor that is not there are errors of their hosts alone."""
    broken, lost = herd.dirs.hosts / "broken.yaml", herd.dirs.hosts / "lost.yaml"
    broken.write_text("vm: [", encoding="utf-8")
    text = (herd.dirs.hosts / "ant.yaml").read_text(encoding="utf-8").replace("test://", "test:///nowhere")
    for old, new in (("domain: ant", "domain: lost"), ("hostname: ant", "hostname: lost"), ("ant.qcow2", "l.qcow2"),
                     ("192.168.122.2\n", "192.168.122.99\n"), ("52:54:00:00:00:01", "52:54:00:00:00:99")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    lost.write_text(text, encoding="utf-8")
    try:
        ran = herd.inv("status", "--prometheus", str(herd.dirs.state / "broken.prom"))
    finally:
        broken.unlink()
        lost.unlink()
    assert ran.code == 1
    assert [line.split()[:3] for line in ran.out.splitlines()[1:6]] == [
        ["ant", "running", "emulation"], ["bee", "running", "emulation"], ["broken", "✗", "unknown"],
        ["cow", "running", "emulation"], ["lost", "✗", "unknown"],
    ]  # fmt: skip
    samples = (herd.dirs.state / "broken.prom").read_text(encoding="utf-8")
    assert 'swarm_host_up{host="lost"} 0' in samples
    assert 'swarm_host_up{host="ant"} 1' in samples


def test_page_and_metrics_are_written(herd: Fleet) -> None:
    """Both files are written in one run, complete, and readable by everybody as far as the umask allows."""
    page, prom = herd.dirs.state / "page.html", herd.dirs.state / "swarm.prom"
    files = ("--html", str(page), "--prometheus", str(prom))
    ran = subprocess.run(
        ["sh", "-c", 'umask 027; exec "$@"', "sh", *herd.command("status", *files)],
        env=herd.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert {stat.S_IMODE(each.stat().st_mode) for each in (page, prom)} == {0o640}
    assert page.read_text(encoding="utf-8").count('role="rowheader"') == len(NAMES)
    families = {each.name: each for each in text_string_to_metric_families(prom.read_text(encoding="utf-8"))}
    assert [sample.value for sample in families["swarm_ssh_ok"].samples] == [1, 1, 1]
    assert not [each for each in page.parent.iterdir() if each.name.startswith((".page", ".swarm.prom"))]


def test_a_file_in_no_folder_is_refused_before_anything_is_asked(herd: Fleet) -> None:
    """A file that can't be written is an error at once, with a hint."""
    ran = herd.inv("status", "--html", "/nowhere/page.html")
    assert (ran.code, ran.out) == (1, "")
    assert "--html: /nowhere/page.html is in /nowhere, which does not exist" in ran.err
    assert "hint: name a file in an existing folder" in ran.err


def test_backups_are_part_of_the_picture(herd: Fleet) -> None:
    """A failed backup is red, with the command that repeats it."""
    now = time.time()
    record.save(
        "ant", Record(started=now - 60, ended=now - 30, succeeded=now - 90_000, result="failure", stored=7)
    )
    try:
        (found,) = herd.inv("status", "--host", "ant", "--json").data
    finally:
        record.save("ant", Record())
    assert (found["backup_result"], found["backup_stored_bytes"]) == ("failure", 7)
    assert found["backup"].startswith("✗ failed ")
    assert "./inv backup --host ant" in {each["command"] for each in found["actions"]}


def test_litellm_has_an_object_of_its_own(herd: Fleet) -> None:
    """Where LiteLLM is set up and does not answer, the last object of --json says so, with the command to type."""
    settings = herd.dirs.state / "litellm" / ".env"
    settings.parent.mkdir()
    settings.write_text(
        "LITELLM_URL=http://127.0.0.1:1\nLITELLM_MASTER_KEY=sk-0123456789\nLITELLM_SALT_KEY=sk-0123456789\n"
    )
    try:
        *hosts, found = herd.inv("status", "--host", "ant", "--json").data
    finally:
        shutil.rmtree(settings.parent)
    assert [each["host"] for each in hosts] == ["ant"]
    assert (found["host"], found["ready"], found["error"]["hint"]) == (
        "LiteLLM",
        False,
        "./inv litellm.health",
    )
    assert found["error"]["message"].startswith("not ready (")
    assert found["actions"] == [{"what": found["error"]["message"], "command": "./inv litellm.health"}]
    assert [each["host"] for each in herd.inv("status", "--host", "ant", "--json").data] == ["ant"]


def test_a_look_is_remembered_once_an_hour(herd: Fleet) -> None:
    """However often the status is looked at, its history has one entry an hour."""
    herd.inv("status", "--host", "ant")
    herd.inv("status", "--host", "ant")
    (entry,) = history.entries("ant", "health")
    assert (entry["ok"], entry["vm"], entry["ssh"]) == (False, "running", "ok")


def test_watch_looks_again_until_ctrl_c(herd: Fleet) -> None:
    """--watch prints one list after another as --json, over one login, and Ctrl-C ends it with exit code 0."""
    before = logins(herd)
    with subprocess.Popen(
        herd.command("status", "--host", "ant", "--watch", "--every", "1", "--json"),
        env=herd.environment, stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        lists = []
        for _ in range(2):
            lines: list[str] = []
            while not lines or lines[-1] != "]\n":
                lines.append(watching.stdout.readline())
                assert lines[-1], "it has ended"
            lists.append(json.loads("".join(lines)))
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.wait(30) == 0
    assert [each["ssh"] for found in lists for each in found] == ["ok", "ok"]
    assert logins(herd) == before + 1
    herd.inv("status", "--host", "ant")
    assert logins(herd) == before + 2  # a single look proves the login


def logins(herd: Fleet) -> int:
    """Count the logins at the server."""
    return herd.server.log().count("Accepted publickey")


def test_rows_appear_while_hosts_answer(herd: Fleet) -> None:
    """On a terminal the table is there before the first answer, and the final one remains."""
    parent, child = pty.openpty()
    environment = {**herd.environment, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "40"}
    with subprocess.Popen(
        herd.command("status"), env=environment, stdin=child, stdout=child, stderr=child
    ) as shown:
        os.close(child)
        output = b""
        while chunk := _read(parent):
            output += chunk
        shown.wait(30)
    os.close(parent)
    text = output.decode("utf-8", "replace")
    assert "…" in text.partition("running")[0]
    assert "→ ./inv provision --host cow --plan" in text


@pytest.mark.parametrize("every", ["0", "-1"])
def test_an_impossible_pause_is_refused(herd: Fleet, every: str) -> None:
    """--every takes a number of seconds above 0."""
    ran = herd.inv("status", "--watch", f"--every={every}")
    assert ran.code == 1
    assert "--every: expected a number of seconds above 0" in ran.err


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
