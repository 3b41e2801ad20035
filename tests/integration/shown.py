"""What becomes of each command line that README.md and docs/ show: it is run here, or a test elsewhere types it.

MACHINES: every host is a machine that swarm did not make, on a bare sshd. VMS: every host is a VM of the embedded
hypervisor that does not exist yet. What would change this computer, or boot a VM, gets --plan, or is refused by the
command itself; the text then proves how far it came.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.paths import ROOT

__all__ = ["ELSEWHERE", "MACHINES", "RUNS", "SAME", "VMS", "Run"]

MACHINES, VMS = "machines", "vms"
_BARE = "the guest was not started by systemd"  # a container's sshd: refused before anything is changed
_NO_USER = "the guest has no user openclaw; run `inv install` first"
_NO_MANAGER = "no systemd|systemctl is missing"
_NEEDS_HOST = "needs --host"


@dataclass(frozen=True)
class Run:
    """How a command is run: in which project, with which words added, and what then must be seen.

    `until`: it runs on until it has shown this, and ends with Ctrl-C.
    """

    where: str
    shows: str
    code: int | tuple[int, ...] = 0
    more: tuple[str, ...] = ()
    until: str = ""


_PLAN, _YES = ("--plan",), ("--yes",)

RUNS = {
    # the fleet
    "hosts": Run(VMS, r"zap +zap +192\.168\.122\.3 "),
    "hosts --check": Run(VMS, "--check --fix adds it|no disagreement", (0, 1)),
    "new --host NAME --like zap": Run(VMS, r"\+ .*/new-1\.yaml", more=_PLAN),
    "new --host zap2 --like zap": Run(VMS, r"\+ .*/zap2\.yaml", more=_PLAN),
    "new --host bee --like zap": Run(VMS, r"\+ .*/bee\.yaml: 192\.168\.122\.\d+, 52:54"),
    "remove --host bee": Run(VMS, r"- host file: .*/bee\.yaml|nothing to do", more=_YES),
    "plan --host all": Run(VMS, r"zap \+ domain", 2),
    "plan --host zap": Run(VMS, r"\+ domain", 2),
    # VMs
    "provision": Run(VMS, _NEEDS_HOST, 1),
    "start": Run(VMS, _NEEDS_HOST, 1),
    "provision --host demo": Run(VMS, r"\+ domain: demo", more=_PLAN),
    "provision --host claw": Run(MACHINES, r"claw answers at 192\.168\.122\.4|nothing to do"),
    "provision --host claw --print-user-data": Run(MACHINES, r"\A#cloud-config\n"),
    "pin --host claw": Run(MACHINES, "nothing to do"),
    "images": Run(VMS, "built here from the packages"),
    "images.prune": Run(VMS, "nothing to do"),
    "doctor": Run(VMS, "programs are installed|missing", (0, 1)),
    "doctor --host zap": Run(VMS, "programs are installed|missing", (0, 1)),
    "destroy --host bee": Run(MACHINES, "swarm did not make this machine", 1),
    # guests
    "ssh --host demo -- uname -a": Run(MACHINES, r"\ALinux "),
    "ssh --host zap -- uptime": Run(MACHINES, "load average"),
    "ssh --host zap": Run(MACHINES, ""),
    "up --host zap": Run(MACHINES, _BARE, 1),
    "install": Run(MACHINES, _NEEDS_HOST, 1),
    "install --host zap --upgrade": Run(MACHINES, _BARE, 1),
    "customize --host @cloud": Run(MACHINES, _NO_USER, 1, _PLAN),
    "customize --host zap --plan": Run(MACHINES, _NO_USER, 1),
    "verify": Run(MACHINES, _NEEDS_HOST, 1),
    "upgrade --host @home --yes": Run(MACHINES, "OpenClaw is not installed", 1),
    "hook.deploy --host zap --plan": Run(MACHINES, "."),
    "hook.tail": Run(MACHINES, "", until=r"http://127\.0\.0\.1:8080/v1/events"),
    "hook.tail --bind 0.0.0.0": Run(MACHINES, "", until=r"http://\S+:8080/v1/events"),
    "hook.tail --host zap --json": Run(MACHINES, "", until=r"http://\S+:8080/v1/events"),
    # a look
    "status": Run(MACHINES, r"zap +foreign .* ok", (0, 1)),
    "status --host all": Run(MACHINES, r"zap +foreign .* ok", (0, 1)),
    "status --host zap": Run(MACHINES, r"zap +foreign .* ok", (0, 1)),
    "status --watch": Run(MACHINES, "", until=r"zap +foreign .* ok"),
    "status --json": Run(MACHINES, r'\A\[\n? *\{"host"|"ssh": ?"ok"', (0, 1)),
    "status --html /srv/www/swarm.html": Run(MACHINES, r"zap +foreign .* ok", (0, 1)),
    "status --prometheus /var/lib/prometheus/node-exporter/swarm.prom": Run(
        MACHINES, r"zap +foreign .* ok", (0, 1)
    ),
    # backups
    "backup --host web*,claw": Run(MACHINES, "web-1.*\n.*claw|claw.*\n.*web-1", 1, _PLAN),
    "backup.list": Run(VMS, "no archives"),
    "backup.list --host zap": Run(VMS, "no archives"),
    "backup.key": Run(VMS, "age1"),
    "backup.verify --host zap --identity FILE": Run(VMS, "no archive", 1),
    "restore --emergency FILE": Run(VMS, "zstd"),
    "restore --emergency ARCHIVE": Run(VMS, "zstd"),
    "restore --host zap --rebuild": Run(VMS, "mirror", 1),
    "restore --host zap --rebuild --archive latest": Run(VMS, "no archive yet", 1),
    "restore --host zap --rebuild --archive latest --identity ~/age.key": Run(VMS, r"no archive yet", 1),
    "restore --host zap --ip 192.168.122.50": Run(VMS, "mirror", 1),
    # timers: this process has no user manager
    "timers.install --host zap": Run(VMS, r"enable openclaw-backup@zap\.timer", more=_PLAN),
    "timers.install --host bee": Run(MACHINES, r"enable openclaw-backup@bee\.timer", more=_PLAN),
    "timers.install --host zap --drill": Run(VMS, r"enable openclaw-drill@zap\.timer", more=_PLAN),
    "timers.install --host all --drift": Run(VMS, r"enable openclaw-plan\.timer", more=_PLAN),
    "timers.install --litellm": Run(VMS, r"enable litellm-health-check\.timer", more=_PLAN),
    "timers.status": Run(VMS, _NO_MANAGER, 1),
    # LiteLLM and the program itself
    "litellm.add": Run(VMS, "needs", 1),
    "--print-completion-script bash": Run(VMS, "complete "),
    "test": Run(
        VMS,
        "test_locks.py",
        more=("--quick", "--", "--collect-only", "-q", str(ROOT / "tests/unit/test_locks.py")),
    ),
    "lint": Run(VMS, "has no option --plan", 1, _PLAN),
    "bench --name configure": Run(VMS, "usage: ", more=("--", "--help")),
    # last, because it adds a host on this machine's own libvirt
    "new --from ../old-folder --plan": Run(VMS, r"\+ .*/old\.yaml"),
    "new --from ../old-folder": Run(VMS, r"\+ .*/old\.yaml"),
    "new --from FOLDER": Run(VMS, "nothing to do"),
}

# The same command as one above, for another host.
SAME = {f"up --host {name}": "up --host zap" for name in ("NAME", "bee", "demo", "claw")}

_VM, _HOOK = "tests/vm/test_provision.py::", "tests/nspawn/test_install_hook.py::"
_UPGRADE, _BACKUP = "tests/nspawn/test_install_upgrade.py::", "tests/nspawn/test_backup.py::"
_NATIVE = "tests/litellm/test_native.py::test_litellm_runs_as_services_of_a_user"
_MODELS, _HEALTH = "tests/litellm/test_models.py::", "tests/litellm/test_health.py::"

ELSEWHERE = {
    "provision --host zap": f"{_VM}test_second_run_changes_nothing",
    "console --host zap": f"{_VM}test_console_shows_the_boot_and_the_screen",
    "pin --host zap": "tests/vm/test_rungs.py::test_a_new_host_key_is_pinned_on_request",
    "destroy --host zap": "tests/vm/test_rungs.py::test_destroy_asks_and_then_leaves_nothing",
    "drill --host zap": "tests/vm/test_drill.py::test_drill_of_the_files",
    "drill --host zap --discard": "tests/vm/test_drill.py::test_discarding",
    "install --host zap": f"{_HOOK}test_the_hook_is_part_of_install",
    "install --host zap --plan": f"{_HOOK}test_the_hook_is_part_of_install",
    "hook.deploy --host zap": f"{_HOOK}test_hook_test_shows_what_arrives",
    "hook.test --host zap": f"{_HOOK}test_hook_test_shows_what_arrives",
    "customize --host zap": "tests/nspawn/test_commands.py::test_customize_changes_once",
    "verify --host zap": "tests/nspawn/test_commands.py::test_verify_survives_an_endless_answer",
    "upgrade --host zap": f"{_UPGRADE}test_a_version_that_starts",
    "upgrade --host zap --plan": f"{_UPGRADE}test_a_version_that_starts",
    "upgrade --host zap --back": f"{_UPGRADE}test_one_that_does_not_start",
    "backup --host zap": f"{_BACKUP}test_backup_and_restore",
    "restore --host zap": f"{_BACKUP}test_backup_and_restore",
    "litellm.up": "tests/docker/test_real.py::test_down_and_a_crash_keep_the_models",
    "litellm.up --native": _NATIVE,
    "litellm.down": "tests/docker/test_litellm.py::test_down_keeps_the_database",
    "litellm.down --native": _NATIVE,
    "litellm.status": f"{_HEALTH}test_status_of_a_proxy_elsewhere",
    "litellm.logs --follow": "tests/docker/test_litellm.py::test_logs_hide_secrets",
    "litellm.init": "tests/docker/test_real.py::test_first_start_registers_the_models",
    "litellm.models": f"{_MODELS}test_listing",
    "litellm.add fast openai/gpt-5-mini --key-env OPENAI_API_KEY": f"{_MODELS}test_add_without_a_key",
    "litellm.add nano openai/gpt-5-nano --key-env OPENAI_API_KEY": f"{_MODELS}test_add_and_remove",
    "litellm.remove nano": f"{_MODELS}test_add_and_remove",
    "litellm.dedup": f"{_MODELS}test_dedup",
    "litellm.dedup --dry-run": f"{_MODELS}test_dedup",
    "litellm.health": f"{_HEALTH}test_copies_are_removed",
    "litellm.doctor MODEL": f"{_HEALTH}test_doctor_finds_nothing",
    "litellm.doctor gpt-5-mini": f"{_HEALTH}test_doctor_finds_nothing",
    "litellm.login copilot": "tests/docker/test_real.py::test_login_to_github_copilot",
}
