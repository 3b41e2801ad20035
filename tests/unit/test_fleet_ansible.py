"""`inv new --from FOLDER`: what of an old Ansible folder is carried over, and what is listed instead."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.console import Talk, screen
from swarm.errors import UsageError
from swarm.fleet import instances
from swarm.fleet.ansible import Imported, bring
from swarm.fleet.variables import CARRIED, LEFT, Unreadable, reason, value
from swarm.inventory.report import leaves

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

INVENTORY = """all:
  vars: {vm_network: lab, vm_vcpus: 1}
  children:
    claws:
      vars: {vm_vcpus: 2}
      children:
        big:
          hosts:
            zap:
              ansible_host: 192.168.122.200
              ansible_user: root
    local:
      hosts:
        localhost: {ansible_connection: local}
"""
GROUP = "vm_memory: 3G\nvm_disk_size_gb: 60\nopenclaw_swappiness: 20\n"
ZAP = """vm_name: zap [claw]
vm: {mac: 52:54:00:01:00:72}
vm_disk_path: /var/lib/libvirt/images/zap.qcow2
vm_autostart: no
openclaw_port: 18790
openclaw_backup_destinations: s3://zap/backups/
"""


@pytest.fixture
def old(dirs: Dirs) -> Path:
    """An old folder with one VM."""
    folder = dirs.state / "old"
    put(folder / "inventory.yml", INVENTORY)
    put(folder / "group_vars/claws.yml", GROUP)
    put(folder / "host_vars/zap/main.yml", ZAP)
    return folder


def put(path: Path, text: str) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def add(folder: Path, text: str) -> None:
    """Add variables of the host."""
    put(folder / "host_vars/zap/more.yml", text)


def run(folder: Path, *, plan_only: bool = False) -> Imported:
    """Convert the folder."""
    return bring(folder, Talk(screen()), plan_only=plan_only)


def left(done: Imported) -> list[str]:
    """Return what was not carried over, without what every folder of these tests has."""
    return [each.line() for each in done.left if each.name not in {"localhost", "ansible_user"}]


def test_a_host_is_carried_over(old: Path) -> None:
    """Variables of groups and of the host, in Ansible's order, become one valid host file; the host is registered."""
    done = run(old)
    assert (done.exit_code, dict(done.states)) == (0, {"zap": "new"})
    assert [each.line() for each in done.left] == [
        "inventory.yml:11: ansible_user: swarm logs in as root with a key of its own",
        "inventory.yml:14: localhost: this computer needs no host file",
    ]
    host = inventory.load("zap")
    vm = host.vm
    assert (vm.domain, vm.hostname, vm.vcpus, vm.memory_mib, vm.autostart) == (
        "zap [claw]",
        "zap",
        2,
        3072,
        False,
    )
    assert (str(vm.ip), vm.mac, inventory.size(vm.disk_size)) == (
        "192.168.122.200",
        "52:54:00:01:00:72",
        "60G",
    )
    assert (host.hypervisor.network, host.guest.swappiness, host.openclaw.port) == ("lab", 20, 18790)
    assert host.backup.destinations == ("s3://zap/backups/",)
    assert instances.read().entries["zap"]["port"] == 18790
    again = run(old)
    assert (bool(again.plan), dict(again.states)) == (False, {"zap": "same"})


def test_merge_keys_are_read_as_ansible_reads_them(old: Path) -> None:
    """A merge key brings in the anchor's keys. A mapping's own keys override them, and earlier mappings later ones."""
    put(
        old / "host_vars/zap/main.yml",
        "small: &small {vm_memory: 2G, vm_vcpus: 1, vm_autostart: yes}\n"
        "net: &net {vm_network: home, vm_vcpus: 3}\n"
        "vm_autostart: no\n<<: [*net, *small]\n"
        "vm: {mac: 52:54:00:01:00:72, disk_path: /var/lib/libvirt/images/zap.qcow2}\n",
    )
    assert run(old).states == {"zap": "new"}
    host = inventory.load("zap")
    assert (host.vm.memory_mib, host.vm.vcpus, host.vm.autostart) == (2048, 3, False)
    assert host.hypervisor.network == "home"


def test_files_of_variables_are_those_that_ansible_reads(old: Path) -> None:
    """In a folder, names without a suffix, JSON and folders below count too. A file beside the folder does not."""
    put(old / "group_vars/big/more/main.json", '{"vm_memory": "4G"}')
    for name, count in (("vars", 3), (".main.yml", 5), ("vars~", 6), ("zap.txt", 7)):
        put(old / "group_vars/big" / name, f"vm_vcpus: {count}\n")
    put(old / "group_vars/big.yml", "vm_vcpus: 8\n")
    done = run(old)
    host = inventory.load("zap")
    assert (host.vm.vcpus, host.vm.memory_mib) == (3, 4096)
    assert left(done) == ["group_vars/big.yml: big: Ansible reads group_vars/big instead"]


def test_every_host_gets_a_host_name_of_its_own(old: Path) -> None:
    """A group's variable names the first host; the others are called after themselves, which is reported."""
    second = INVENTORY.replace("zap:\n", "zap:\n              vm_hostname: claw\n", 1)
    second = second.replace("    local:", "            bee_1: {ansible_host: 192.168.122.201}\n    local:")
    put(old / "inventory.yml", second)
    put(old / "group_vars/big.yml", "vm_hostname: claw\n")
    put(old / "host_vars/bee_1/main.yml", ZAP.replace("zap", "bee").replace("01:00:72", "01:00:73"))
    done = run(old)
    assert (done.exit_code, dict(done.states)) == (0, {"zap": "new", "bee_1": "new"})
    assert [host.vm.hostname for host in inventory.load_all()] == ["bee-1", "claw"]
    assert left(done) == [
        "group_vars/big.yml:1: vm.hostname: claw is the host name of zap already, so bee_1 has bee-1"
    ]
    again = run(old)
    assert (bool(again.plan), dict(again.states)) == (False, {"zap": "same", "bee_1": "same"})


def test_the_plan_writes_nothing(old: Path, dirs: Dirs) -> None:
    """`--plan` shows the file and writes none."""
    done = run(old, plan_only=True)
    assert "domain: zap [claw]" in str(done.plan.changes[0].detail)
    assert not list(dirs.hosts.iterdir())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "openclaw_version: !vault |\n  $ANSIBLE_VAULT;1.1\n",
            "1: openclaw_version: an encrypted value (!vault) is",
        ),
        ("openclaw_user: !unsafe me\n", "1: openclaw_user: a value with a YAML tag is not read"),
        ("a: 1\nopenclaw_user: !!python/object:os.system x\n", "2: openclaw_user: a value with a YAML tag"),
        ("openclaw_user: '{{ me }}'\n", "1: openclaw_user: a Jinja expression is not evaluated"),
        ("openclaw_ssh_keys:\n  - '{% x %}'\n", "2: openclaw_ssh_keys: a Jinja expression is not evaluated"),
        ("openclaw_token: hunter2\n", "1: openclaw_token: it looks like a secret"),
        ("tailscale_authkey: hunter2\n", "1: tailscale_authkey: it looks like a secret"),
        ("color: hunter2\n", "1: color: no key of a host file corresponds to it"),
        ("vm_image: hunter2.img\n", "1: vm_image: swarm's catalog has no image of this name"),
        ("vm_memory_mb: hunter2\n", "1: vm_memory_mb: expected memory in MiB"),
        (
            "openclaw_repo_url: https://hunter2@git.example.com/x\n",
            "1: openclaw_repo_url: it contains a password",
        ),
        ("vm_libvirt_uri: qemu+ssh://me:hunter2@box/system\n", "1: vm_libvirt_uri: it contains a password"),
        ("vm_autostart: [hunter2]\n", "1: vm_autostart: expected one value"),
        ("openclaw_user:\n", "1: openclaw_user: it has no value"),
        (
            "vm_ip: 192.168.122.201\n",
            "10: ansible_host: vm.ip has another value already, from host_vars/zap/more.yml:1",
        ),
        ("vm_cpus: 2\nvm_cpus: 2\n", "1: vm_cpus: given again in line 2, which counts"),
        ("{{ x }}: 1\n", "1: a key: expected a name"),
        ("<<: [{a: 1}, hunter2]\n", "1: <<: expected a mapping, or a list of mappings"),
        ("x: &x\n  <<: *x\n", "the whole file: the YAML has too many values, or is nested too deeply"),
        ("[", "the whole file: invalid YAML in line 1"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "the whole file: the file is encrypted with Ansible Vault"),
        ("x: &x [1]\ny: *x\n" + "z: \x00", "the whole file: invalid YAML"),
    ],
)
def test_what_is_not_carried_over_is_listed(old: Path, text: str, expected: str) -> None:
    """Each thing that has no place in a host file is listed with file, line and reason, and the host is written."""
    add(old, text)
    done = run(old)
    assert any(expected in line for line in left(done)), left(done)
    assert done.states == {"zap": "new"}
    written = str(done.plan.to_json()) + inventory.load("zap").model_dump_json() + "".join(left(done))
    assert "hunter2" not in written
    assert "ANSIBLE" not in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "vm_mac: 02:00:00:00:00:01\n",
            "host_vars/zap/more.yml:1: zap: vm.mac: expected a MAC address that starts",
        ),
        ("vm_disk_path: '{{ d }}/x'\n", "inventory.yml:9: zap: vm.disk_path: this key is missing"),
        ("vm_virtiofs: {tag: swarm}\n", "inventory.yml:9: zap: vm.virtiofs.source: this key is missing"),
        (
            "openclaw_ssh_keys: [nonsense]\n",
            "more.yml:1: zap: openclaw.ssh_keys[1]: expected one SSH public key",
        ),
    ],
)
def test_an_invalid_host_is_listed_and_not_written(old: Path, dirs: Dirs, text: str, expected: str) -> None:
    """A host that would be invalid is listed with the place of the wrong variable. The other hosts are written."""
    put(
        old / "inventory.yml",
        INVENTORY.replace("            zap:\n", "            bee:\n            zap:\n", 1),
    )
    put(
        old / "host_vars/bee.yml",
        ZAP.replace("zap", "bee").replace("00:72", "00:73") + "vm_ip: 192.168.122.201\n",
    )
    add(old, text)
    done = run(old)
    assert (done.exit_code, dict(done.states)) == (1, {"bee": "new", "zap": "invalid"})
    lines = [line.replace("inventory.yml:10", "inventory.yml:9") for line in left(done)]
    assert any(expected in line for line in lines), lines
    assert [path.name for path in dirs.hosts.iterdir()] == ["bee.yaml"]
    assert list(instances.read().entries) == ["bee"]


def test_two_hosts_with_one_address(old: Path, dirs: Dirs) -> None:
    """Of two hosts in the folder that clash, the first one is written, also in the plan."""
    put(old / "inventory.yml", INVENTORY + "other: {hosts: {ant: {vm_ip: 192.168.122.200}}}\n")
    own = ZAP.replace("zap", "ant").replace("00:72", "00:73")
    put(old / "host_vars/ant.yml", GROUP + own)
    for plan_only in (True, False):
        done = run(old, plan_only=plan_only)
        assert done.states == {"zap": "new", "ant": "invalid"}
        assert "192.168.122.200 is already used by" in left(done)[0]
    assert [path.name for path in dirs.hosts.iterdir()] == ["zap.yaml"]


def test_an_existing_host_file_is_kept(old: Path, dirs: Dirs) -> None:
    """A host file that differs from what would be written stays, and is listed."""
    (dirs.hosts / "zap.yaml").write_text("# mine\n", encoding="utf-8")
    done = run(old)
    assert (done.exit_code, dict(done.states)) == (0, {"zap": "exists"})
    assert "zap.yaml exists and is kept" in left(done)[0]
    assert (dirs.hosts / "zap.yaml").read_text(encoding="utf-8") == "# mine\n"


def test_links_and_special_files_are_not_followed(old: Path, dirs: Dirs) -> None:
    """A link out of the folder, a pipe and a file without end are listed, and never read."""
    secret = dirs.state / "secret.yml"
    put(secret, "vm_vcpus: 7\n")
    (old / "host_vars/zap/a.yml").symlink_to(secret)
    os.mkfifo(old / "host_vars/zap/b.yml")
    (old / "host_vars/zap/c.yml").symlink_to("/dev/zero")
    (old / "host_vars/zap/d.yml").symlink_to("d.yml")
    put(old / "host_vars/zap/e.yml", "#" * (300 * 1024))
    put(old / "host_vars/gone.yml", "vm_vcpus: 7\n")
    assert left(run(old)) == [
        "host_vars/zap/a.yml: the whole file: a symbolic link that leads out of the folder is not followed",
        "host_vars/zap/b.yml: the whole file: expected a regular file",
        "host_vars/zap/c.yml: the whole file: a symbolic link that leads out of the folder is not followed",
        "host_vars/zap/d.yml: the whole file: cannot be read: a loop of links",
        "host_vars/zap/e.yml: the whole file: the file exceeds 256 KiB",
        "host_vars/gone.yml: gone: the inventory has no host of this name",
    ]


def test_aliases_that_expand_to_billions_are_refused(old: Path) -> None:
    """A file of ten lines that would expand to a billion values costs nothing."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 10)]
    add(old, "\n".join(lines) + "\n")
    assert left(run(old)) == [
        "host_vars/zap/more.yml: the whole file: the YAML has too many values, or is nested too deeply"
    ]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has none of inventory.yml"),
        ({"inventory.yml": "["}, "invalid YAML"),
        ({"hosts.yml": "$ANSIBLE_VAULT;1.1"}, "encrypted with Ansible Vault"),
    ],
)
def test_a_folder_without_an_inventory(dirs: Dirs, files: dict[str, str], sentence: str) -> None:
    """Without an inventory that can be read, the error says what is missing."""
    folder = dirs.state / "old"
    folder.mkdir()
    for name, text in files.items():
        put(folder / name, text)
    with pytest.raises(UsageError, match=sentence):
        run(folder)
    with pytest.raises(UsageError, match="is not a directory"):
        run(folder / "gone")


def test_groups_in_a_circle_end(old: Path) -> None:
    """Groups that contain each other are no endless loop."""
    put(old / "inventory.yml", INVENTORY + "big: {children: {claws: }}\n")
    assert run(old).states == {"zap": "new"}


def test_every_key_of_the_table_exists() -> None:
    """Each variable leads to a key that host files have, by a way to read it that exists."""
    keys = {".".join(path) for path in leaves()} | {
        "vm.virtiofs.source",
        "vm.virtiofs.tag",
        "vm.virtiofs.target",
    }
    for name, (key, kind) in CARRIED.items():
        assert key in keys, name
        with pytest.raises(Unreadable):
            value(kind, {})
    assert not CARRIED.keys() & LEFT.keys()
    assert all(reason(name) for name in LEFT)
