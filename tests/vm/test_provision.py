"""The reference VM as its owner finds it after `./inv provision --host zap`. Nothing here changes it.

The command was late, was stopped by Ctrl-C, and completed the VM then.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
import testinfra

from swarm.embedded.shares import FIRST_USER, NOBODYS, outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host as Guest

    from tests.vm.lab import Lab, Ran


@pytest.fixture(scope="module")
def guest(zap: Lab) -> Guest:
    """The guest, reached by testinfra over the generated ssh_config."""
    # One connection for all tests: an SSH handshake with an emulated guest takes seconds.
    return testinfra.get_host(
        "ssh://zap", ssh_config=str(zap.base / "state/ssh/config"), controlpath=str(zap.base / "ssh-control")
    )


def test_a_run_that_is_late_names_the_rung(late: Ran) -> None:
    """A run whose time is over before the VM is ready names the rung that it waited for."""
    assert late.code == 1
    assert "'SSH port open' was not reached within 5 s" in late.err


def test_ctrl_c_ends_the_wait(stopped: Ran) -> None:
    """Ctrl-C while a run waits for the VM gives no traceback."""
    assert stopped.code == 130
    assert "Traceback" not in stopped.err


def test_every_rung_is_shown_with_its_time(zap: Lab, provisioned: Ran) -> None:
    """The same command completes the same VM, and names each rung of the ladder, in order, with its time."""
    rungs = [
        "domain running",
        "SSH port open",
        "pinned host key shown",
        "login",
        "cloud-init done",
        "share mounted",
    ]
    assert re.findall(r"✓ (" + "|".join(rungs) + r") .*\d s$", provisioned.err, re.MULTILINE) == rungs
    assert f"{zap.host().name} is ready at 192.168.122.182" in provisioned.err
    assert zap.inv("plan", "--only", "vm", "--host", "zap", "--json").data[0]["changes"] == []


def test_secure_boot_is_enabled(guest: Guest) -> None:
    """The firmware checked the boot loader's signature, and the kernel says so."""
    assert guest.check_output("mokutil --sb-state") == "SecureBoot enabled"


def test_tpm_is_a_version_2(guest: Guest) -> None:
    """The guest's TPM is there and is a TPM 2.0."""
    assert guest.file("/dev/tpm0").exists
    assert guest.file("/sys/class/tpm/tpm0/tpm_version_major").content_string.strip() == "2"


def test_share_is_mounted_and_writable_both_ways(zap: Lab, guest: Guest) -> None:
    """What the hypervisor writes into the shared folder the guest reads, and the other way round."""
    (zap.share / "from-host").write_text("hello guest\n")
    assert guest.mount_point("/mnt/swarm").filesystem == "virtiofs"
    assert guest.check_output("cat /mnt/swarm/from-host") == "hello guest"
    guest.check_output("echo hello host > /mnt/swarm/from-guest")
    assert (zap.share / "from-guest").read_text() == "hello host\n"


def test_an_owner_in_the_share_is_nobody_here(zap: Lab, guest: Guest) -> None:
    """What the guest's root leaves in the share with set-user-ID is nobody's program on the hypervisor."""
    guest.check_output("install --mode 4755 /bin/true /mnt/swarm/program")
    guest.check_output("install --owner openclaw /dev/null /mnt/swarm/of-user")
    guest.run_expect([1], "mknod /mnt/swarm/device c 1 3")
    assert (zap.share / "program").stat().st_uid == NOBODYS
    assert (zap.share / "of-user").stat().st_uid == outside(FIRST_USER, os.getuid())


def test_watchdog_device_is_there(guest: Guest) -> None:
    """The guest drives the i6300esb watchdog that resets a hanging machine."""
    assert guest.file("/dev/watchdog").exists
    assert guest.check_output("cat /sys/class/watchdog/watchdog0/identity") == "i6300ESB timer"


def test_guest_agent_answers(zap: Lab) -> None:
    """The guest agent answers with the guest's host name."""
    with zap.hypervisor() as connection:
        assert zap.domain(connection).agent("guest-get-host-name") == {"host-name": "zap"}


def test_root_disk_has_grown_to_its_size(guest: Guest) -> None:
    """The root file system fills the 60 GiB that the host file gives it, less what a file system and the ESP need."""
    total = int(guest.check_output("df --output=size --block-size=1M / | tail -1"))
    assert 57 * 1024 < total <= 60 * 1024


def test_hostname_is_the_host_files(guest: Guest) -> None:
    """The guest's host name is the host file's."""
    assert guest.check_output("hostname") == "zap"


def test_address_is_the_reserved_one(zap: Lab, guest: Guest) -> None:
    """The guest got the reserved address by DHCP, and libvirt lists it as a lease of the VM's MAC."""
    assert "192.168.122.182/24" in guest.check_output("ip -4 -o address show scope global")
    with zap.hypervisor() as connection:
        leases = connection.raw.networkLookupByName("default").DHCPLeases()
    own = [
        lease["ipaddr"] for lease in leases if lease["mac"] == "52:54:00:01:00:71"
    ]  # drills have leases, too
    assert own == ["192.168.122.182"]


def test_memory_and_processors_are_the_host_files(guest: Guest) -> None:
    """The guest sees 1 processor and 3072 MiB, less what its kernel and firmware keep for themselves."""
    assert guest.check_output("nproc") == "1"
    assert 2800 < int(guest.check_output("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo")) <= 3072


@pytest.mark.parametrize("user", ["root", "openclaw"])
def test_both_users_log_in_with_the_key(zap: Lab, user: str) -> None:
    """Root and openclaw log in with swarm's key, since the host file names none."""
    assert zap.ssh("zap", "id -un", user) == f"{user}\n"


def test_no_password_opens_the_guest(guest: Guest) -> None:
    """Neither user has a password, and the SSH server takes none."""
    assert all(
        line.split(":")[1].startswith(("!", "*"))
        for line in guest.check_output("getent shadow root openclaw").splitlines()
    )
    assert "passwordauthentication no" in guest.check_output("sshd -T")


def test_guest_shows_the_pinned_key_and_no_other(zap: Lab, guest: Guest) -> None:
    """The guest's only host key is the one that was pinned before it ever booted."""
    pinned = (zap.base / "hosts/zap.known_hosts").read_text().split()[1:3]
    assert guest.check_output("cat /etc/ssh/ssh_host_*_key.pub").split()[:2] == pinned
    assert guest.check_output("ls /etc/ssh/ssh_host_*_key | wc -l") == "1"


def test_a_guest_reaches_the_internet_and_no_private_address(guest: Guest) -> None:
    """Of its hypervisor, the guest reaches DNS only; the rest, its neighbors and link-local addresses do not answer."""
    script = "timeout 3 bash -c 'exec 3<>/dev/tcp/{}' 2>/dev/null; echo $?"
    assert guest.run(script.format("192.168.122.1/53")).stdout.strip() == "0"
    for place in (
        "192.168.122.1/22",
        "192.168.122.77/22",
        "169.254.169.254/80",
        "169.254.53.1/80",
        "10.0.0.1/80",
    ):
        assert guest.run(script.format(place)).stdout.strip() == "124", place


def test_a_guest_has_no_other_address(guest: Guest) -> None:
    """What the guest sends from an address that is not its own gets no answer."""
    script = """python3 - <<'END'
import socket
for address in ("192.168.122.182", "192.168.122.99"):
    try:
        with socket.create_connection(("192.168.122.1", 53), 3, (address, 0)):
            print("answered")
    except OSError as error:
        print(type(error).__name__)
END"""
    guest.run(
        "ip addr add 192.168.122.99/24 dev $(ip -o route get 192.168.122.1 | sed 's/.* dev //; s/ .*//')"
    )
    try:
        assert guest.run(script).stdout.split() == ["answered", "TimeoutError"]
    finally:
        guest.run(
            "ip addr del 192.168.122.99/24 dev $(ip -o route get 192.168.122.1 | sed 's/.* dev //; s/ .*//')"
        )


def test_seed_is_gone(zap: Lab, guest: Guest) -> None:
    """After the first boot nothing is left of the seed, which held the host's private key: no drive, no file."""
    assert guest.check_output("ls /dev/vd?") == "/dev/vda"
    assert not [name for name in zap.files() if "seed" in name]
    with zap.hypervisor() as connection:
        assert "vdb" not in zap.domain(connection).xml()


def test_domain_starts_with_its_hypervisor(zap: Lab) -> None:
    """Autostart is on, as zap's host file says."""
    with zap.hypervisor() as connection:
        assert zap.domain(connection).autostart


def test_guest_booted_without_a_failure(guest: Guest) -> None:
    """No unit of the guest failed, and cloud-init has no error to report."""
    assert guest.check_output("systemctl --failed --no-legend --plain") == ""
    assert '"errors": []' in guest.check_output("cat /run/cloud-init/result.json")


def test_guest_gets_packages_from_where_this_machine_does(guest: Guest) -> None:
    """The guest reaches this machine's package sources through the embedded hypervisor."""
    guest.check_output("apt-get -q update --error-on=any")


def test_status_says_so_in_a_table_and_as_data(zap: Lab) -> None:
    """`./inv status` finds the VM running, SSH in order and nothing drifted, for people and for scripts."""
    table = zap.inv("status")
    assert table.code == int(" → ./inv " in table.out)  # 1 if a person must do something, such as a backup
    assert re.search(r"^zap +running +\w+ +192\.168\.122\.182 +ok +none", table.out, re.MULTILINE)
    assert zap.inv("status", "--json").data[0]["ssh"] == "ok"


def test_console_shows_the_boot_and_the_screen(zap: Lab, is_png: Callable[[bytes], bool]) -> None:
    """`./inv console` prints the serial log down to the login prompt, and saves the screen as a PNG."""
    assert "zap login:" in zap.inv("console", "--host", "zap").out
    picture = zap.base / "screen.png"
    assert zap.inv("console", "--host", "zap", "--screenshot", str(picture)).code == 0
    assert is_png(picture.read_bytes())


@pytest.fixture
def is_png() -> Callable[[bytes], bool]:
    """Whether bytes are a PNG picture that is not of one colour only."""

    def check(data: bytes) -> bool:
        import io

        from PIL import Image

        with Image.open(io.BytesIO(data)) as picture:
            return picture.format == "PNG" and len(set(picture.convert("L").getextrema())) > 1

    return check


def test_arguments_after_the_dashes_arrive_unchanged(zap: Lab) -> None:
    """`./inv ssh … -- ARGUMENTS` passes each argument to the guest unchanged, with blanks, quotes and stars."""
    words = ["a  b", "it's", '"', "*", "$HOME", "ü;&|"]
    assert zap.inv("ssh", "--host", "zap", "--", "printf", "%s\\n", *words).out.splitlines() == words


def test_a_failing_host_stops_no_other(zap: Lab) -> None:
    """A host that cannot be made fails with its own error. The others go on, and the exit code is 1."""
    zap.copy("bee", 41)
    zap.edit("bee", virtiofs={"source": "/no/such/folder", "tag": "swarm", "target": "/mnt/swarm"})
    try:
        ran = zap.inv("provision", "--host", "zap,bee")
    finally:
        (zap.base / "hosts/bee.yaml").unlink()
    assert ran.code == 1
    assert re.search(
        r"^bee error: .*bee\.yaml:\d+: vm\.virtiofs\.source: /no/such/folder does not exist\n"
        r"bee   hint: make the folder",
        ran.err,
        re.MULTILINE,
    )
    assert re.search(r"^zap +nothing to do", ran.out, re.MULTILINE)
    assert re.search(r"^bee +failed: ", ran.out, re.MULTILINE)


def test_address_of_another_is_refused(zap: Lab) -> None:
    """An address that is reserved for another VM is refused with the line, before anything is made."""
    zap.copy("bee", 42)
    before = sorted(zap.files())
    reserve = zap.hypervisor()
    network = reserve.raw.networkLookupByName("default")
    entry = "<host mac='52:54:00:99:99:99' ip='192.168.122.42'/>"
    network.update(3, 4, -1, entry, 3)  # add-last, DHCP host, live and stored
    try:
        ran = zap.inv("provision", "--host", "bee")
    finally:
        network.update(2, 4, -1, entry, 3)  # delete
        reserve.close()
        (zap.base / "hosts/bee.yaml").unlink()
    assert ran.code == 1
    assert re.search(r"bee\.yaml:\d+: vm\.ip: .*192\.168\.122\.42 .*52:54:00:99:99:99", ran.err)
    assert sorted(zap.files()) == before


def test_second_run_changes_nothing(zap: Lab) -> None:
    """The same command again says that there is nothing to do, and the VM does not notice."""
    with zap.hypervisor() as connection:
        before = (
            zap.domain(connection).raw.ID(),
            zap.domain(connection).xml(),
            zap.domain(connection).xml(live=True),
        )  # its number changes with every start
        again = zap.inv("provision", "--host", "zap", "--json")
        assert (
            zap.domain(connection).raw.ID(),
            zap.domain(connection).xml(),
            zap.domain(connection).xml(live=True),
        ) == before  # as above
    assert again.code == 0
    assert again.data[0]["changes"] == []
    assert "nothing to do" in zap.inv("provision", "--host", "zap").err
    assert zap.inv("plan", "--only", "vm", "--host", "zap").code == 0
