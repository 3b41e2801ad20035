"""Commands as a user types them, over real connections: two hosts side by side, one of which may be hostile."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.paths import ROOT
from swarm.vm.pin import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs
    from tests.nspawn.at_the_prompt import Operator
    from tools.lab import Machine, World

pytestmark = pytest.mark.slow

MEMORY = 200 << 10  # KiB that a run may take, whatever a guest sends
LIMIT = 90.0  # seconds: a silent guest is left after 60
# What a login to the hostile machine runs. Without /behavior it behaves.
FORCED = '#!/bin/sh\nif [ -e /behavior ]; then . /behavior; else exec sh -c "$SSH_ORIGINAL_COMMAND"; fi\n'


@pytest.fixture(scope="module")
def evil(world: World) -> Iterator[Machine]:
    """A machine whose logins run what the test puts into /behavior."""
    made = world.machine()
    (made.root / "usr/local/bin/forced").write_text(FORCED)
    (made.root / "usr/local/bin/forced").chmod(0o755)
    (made.root / "etc/ssh/sshd_config.d").mkdir(exist_ok=True)
    (made.root / "etc/ssh/sshd_config.d/evil.conf").write_text("ForceCommand /usr/local/bin/forced\n")
    made.ssh("useradd -m openclaw; systemctl restart ssh")
    yield made
    world.discard(made)


def test_customize_changes_once(operator: Operator, machine: Machine) -> None:
    """`customize` shows its plan, makes the changes, and has nothing to do in a second run."""
    machine.ssh("rm -f /etc/sysctl.d/99-zz-swarm-*; ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime")
    first = operator.inv("customize", "--host", "demo")
    assert first.code == 0, first.err
    lines = first.err.splitlines()
    planned = next(index for index, line in enumerate(lines) if line.startswith("~ time zone: "))
    assert planned < next(index for index, line in enumerate(lines) if line.startswith("✓ time zone"))
    second = operator.inv("customize", "--host", "demo")
    assert (second.code, second.err) == (0, "nothing to do\n")


def test_a_machine_that_swarm_did_not_make(operator: Operator, machine: Machine, dirs: Dirs) -> None:
    """With hypervisor.uri: none, `provision` pins the key, `plan` examines the guest, and `customize` works."""
    (dirs.hosts / "claw.yaml").write_text(
        f"hypervisor: {{uri: none}}\nmachine: {{address: {machine.ip}, hostname: claw, "
        f"fingerprint: '{fingerprint(machine.public_key)}'}}\nguest: {{swappiness: 42}}\n"
        "openclaw: {nodejs_source: npm, docker_source: distribution}\n",
        encoding="utf-8",
    )
    first = operator.inv("provision", "--host", "claw")
    assert (first.code, f"claw answers at {machine.ip}" in first.err) == (0, True), first.err
    planned = operator.inv("plan", "--host", "claw", "--json")
    assert planned.code == 2, planned.err
    [found] = json.loads(planned.out)
    assert {change["part"] for change in found["changes"]} == {"guest"}
    assert any("swappiness" in change["subject"] for change in found["changes"])
    assert operator.inv("customize", "--host", "claw").code == 0
    assert operator.inv("customize", "--host", "claw").err == "nothing to do\n"
    ssh.Guest(ssh.part_path("claw"), "claw").close()


def test_the_task_of_the_readme_runs(operator: Operator, dirs: Dirs) -> None:
    """The README's five-line task opens a guest and shows what a command prints."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own tasks")[2]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    (dirs.state / "own").mkdir()
    (dirs.state / "own" / "tasks.py").write_text(code[1], encoding="utf-8")
    invoke = [sys.executable, "-m", "invoke", "--search-root", str(dirs.state / "own"), "uptime"]
    ran = operator.run("env", f"PYTHONPATH={ROOT}", *invoke)
    assert (ran.code, ran.err) == (0, "")
    assert "load average" in ran.out


# A guest that reads the script to learn its mark, and answers with what follows.
ANSWER = (
    "script=$(cat); mark=$(printf '%s' \"$script\" | sed -n \"s/.*'\\(.*\\) begin'.*/\\1/p\" | head -n1)\n"
)
BEHAVIORS = {
    "endless zero bytes": "exec cat /dev/zero",
    "endless lines": "exec yes",
    "endless errors": "exec yes >&2",
    "nothing at all": "exit 0",
    "another exit code": "echo go away >&2; exit 7",
    "silence": "exec sleep 600",
    "an exit code of 5000 digits": ANSWER
    + 'echo "$mark begin"; echo; echo "$mark end $(printf %05000d 7)"; sleep 600',
    "no answers": ANSWER + 'echo "$mark begin"; echo; echo "$mark end 0"; sleep 600',
    "an end that never ends": ANSWER + 'echo "$mark begin"; while sleep 0.1; do echo x; done',
    "terminal sequences": ANSWER
    + 'printf \'%s begin\\n\\033]0;owned\\007\\342\\200\\256\\n%s end 9\\n\' "$mark" "$mark"',
    "the script itself": "exec cat",
}


@pytest.mark.parametrize("name", [name for name in BEHAVIORS if name != "an end that never ends"])
def test_a_hostile_guest_harms_only_itself(operator: Operator, evil: Machine, name: str) -> None:
    """A guest that lies, floods or hangs causes a one-line error and affects nothing else in the run."""
    operator.add("evil", evil)
    (evil.root / "behavior").write_text(BEHAVIORS[name])
    try:
        ran = operator.inv("customize", "--plan", "--host", "demo,evil")
    finally:
        (evil.root / "behavior").unlink()
    shown = ran.out + ran.err
    assert ran.code == 1
    assert re.search(r"^evil error: evil: .", ran.err, re.MULTILINE), ran.err
    assert re.search(r"^demo +(nothing to do|\d+ changes?) ", ran.out, re.MULTILINE), shown
    assert "Traceback" not in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert ran.seconds < LIMIT
    assert ran.memory < MEMORY


def test_a_hostile_systems_name_is_shown_safely(operator: Operator, evil: Machine) -> None:
    """The terminal shows a guest's name for itself with escaped control characters."""
    operator.add("evil", evil)
    release = evil.root / "usr/lib/os-release"
    before = release.read_bytes()
    release.write_bytes(b'ID=odd\nPRETTY_NAME="\x1b]0;owned\x07\xe2\x80\xaeOS"\n')
    try:
        ran = operator.inv("install", "--plan", "--host", "evil")
    finally:
        release.write_bytes(before)
    assert ran.code == 1
    assert "\\x1b]0;owned\\x07\\u202eOS" in ran.err
    assert all(character.isprintable() or character == "\n" for character in ran.out + ran.err)


def test_verify_survives_an_endless_answer(operator: Operator, evil: Machine) -> None:
    """A guest that floods the suite of `verify` causes a one-line error, within the memory limit."""
    operator.add("evil", evil)
    (evil.root / "behavior").write_text(
        'case $SSH_ORIGINAL_COMMAND in *base64*) exec yes ;; esac\nexec sh -c "$SSH_ORIGINAL_COMMAND"'
    )
    try:
        ran = operator.inv("verify", "--host", "evil")
    finally:
        (evil.root / "behavior").unlink()
    assert ran.code == 1
    assert "the guest's answer is larger than 4 MiB, or never ends" in ran.err
    assert "Traceback" not in ran.out + ran.err
    assert ran.memory < MEMORY
