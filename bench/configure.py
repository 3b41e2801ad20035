"""Configure hosts with ansible-core, pyinfra and swarm, to the same end state, and print how long each took.

    python bench/configure.py [--rounds N] [--hosts 8] [--quick]

Twelve steps (four templated files, two lines, two sysctls, a user, a group, two guarded commands) on real systemd machines that the
program boots itself (tests/nspawn/machine.py: root, systemd-nspawn). The peers are installed into a throwaway environment. Their runs
and ours alternate within a round, each run is a process of its own, and after each first run the end states are compared. The round trip of
20 ms comes from a relay that holds every packet for 10 ms each way. "Again" is the next run within a minute, with whatever connection a
tool keeps; otherwise every tool connects anew. Read the ratios: the seconds belong to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.ours import COMMANDS, FILES, LINES, OWNER, SYSCTLS
from swarm import ssh
from swarm.ssh.remote import Remote

if TYPE_CHECKING:
    from tests.nspawn.machine import Machine, World

# Everybody may keep compiled modules, as on a person's machine.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
DELAY = 0.010  # seconds each way
KEX = "-sntrup761*"  # what swarm's own configuration has for a guest of this machine; paramiko, so pyinfra, knows no such exchange anyway
RESET = (
    "rm -rf /etc/bench /etc/bench.list /etc/bench.other /var/bench-a /var/bench-b /etc/sysctl.d/*bench* /etc/sysctl.d/*swarm*; "
    "userdel -r bench 2>/dev/null; groupdel benchers 2>/dev/null; "
    "echo 64 >/proc/sys/net/ipv4/ip_default_ttl; echo 60 >/proc/sys/net/ipv4/tcp_fin_timeout"
)
STATE = (
    "cat /etc/bench/*.conf /etc/bench.list /etc/bench.other; stat -c '%a %U %G %n' /etc/bench/*.conf /etc/bench.list /etc/bench.other; "
    "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/tcp_fin_timeout; "
    "grep -rhoE '^net[^=]*= *[0-9]+' /etc/sysctl.d/ | tr -d ' ' | sort; "
    "getent passwd bench | cut -d: -f1,6,7; id -nG bench | tr ' ' '\\n' | sort; ls /var/bench-a /var/bench-b"
)


# ── the peers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write_peers(folder: Path) -> None:
    """Write the playbook and the deploy that reach the same end state."""
    for path, text in FILES.items():
        (folder / f"{Path(path).name}.j2").write_text(text)
    sysctl = (
        "f=/etc/sysctl.d/99-bench-{key}.conf; grep -qx '{key} = {value}' $f && [ $(sysctl -n {key}) = {value} ] && exit 0; "
        "echo '{key} = {value}' >$f; sysctl -qp $f; echo changed"
    )
    tasks: list[dict[str, object]] = [{"file": {"path": "/etc/bench", "state": "directory", "mode": "0755"}}]
    tasks += [{"template": {"src": f"{Path(path).name}.j2", "dest": path, "mode": "0644"}} for path in FILES]
    tasks += [
        {"lineinfile": {"path": path, "line": line, "regexp": match, "create": True, "mode": "0644"}}
        for path, (line, match) in LINES.items()
    ]
    tasks += [
        {
            "shell": sysctl.format(key=key, value=value),
            "register": "done",
            "changed_when": "'changed' in done.stdout",
        }
        for key, value in SYSCTLS.items()
    ]
    tasks += [
        {"group": {"name": "benchers", "system": True}},
        {"user": {"name": "bench", "shell": "/bin/bash", "groups": ["benchers"], "append": True}},
    ]
    tasks += [{"shell": {"cmd": script, "creates": path}} for path, script in COMMANDS.items()]
    (folder / "play.yml").write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "vars": {"owner": OWNER}, "tasks": tasks}])
    )
    lines = [
        "from pyinfra import host",
        "from pyinfra.facts.files import File",
        "from pyinfra.operations import files, server",
    ]
    lines += [
        f"files.template(src={str(folder / (Path(path).name + '.pyinfra.j2'))!r}, dest={path!r}, mode='644')"
        for path in FILES
    ]
    lines += [
        f"files.line(path={path!r}, line={match + '.*'!r}, replace={line!r})"
        for path, (line, match) in LINES.items()
    ]
    lines += [
        f"server.sysctl(key={key!r}, value={value!r}, persist=True, persist_file='/etc/sysctl.d/99-bench-{key}.conf')"
        for key, value in SYSCTLS.items()
    ]
    lines += [
        "server.group(group='benchers', system=True)",
        "server.user(user='bench', home='/home/bench', shell='/bin/bash', groups=['benchers'], append=True)",
    ]
    lines += [
        f"if not host.get_fact(File, path={path!r}):\n    server.shell(commands=[{script!r}])"
        for path, script in COMMANDS.items()
    ]
    for path, text in FILES.items():
        (folder / f"{Path(path).name}.pyinfra.j2").write_text(text.replace("{{ owner }}", OWNER))
    (folder / "deploy.py").write_text("\n".join(lines) + "\n")


def environment(folder: Path) -> Path:
    """Make an environment with both peers, from the package index that pip uses, and return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin" / "pip", "install", "-q", "ansible-core", "pyinfra"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    subprocess.run(
        [folder / "bin" / "python", "-m", "compileall", "-q", folder / "lib"],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    return folder / "bin"


# ── the network ────────────────────────────────────────────────────────────────────────────────────────────────────


async def relay(pairs: list[tuple[int, str]]) -> None:
    """Forward each port of 10.77.0.1 to port 22 of an address, holding every packet for DELAY in both directions."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def later() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        sender = asyncio.create_task(later())
        while True:
            try:
                data = await reader.read(65536)
            except ConnectionError:
                data = b""
            queue.put_nowait((time.monotonic() + DELAY, data))
            if not data:
                break
        await sender

    async def serve(address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * DELAY)  # the round trip that opening a connection takes
        far_reader, far_writer = await asyncio.open_connection(address, 22)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    servers = [
        await asyncio.start_server(partial(serve, address), "10.77.0.1", port) for port, address in pairs
    ]
    print("up", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def write_config(world: World, machines: list[Machine], path: Path, *, far: bool) -> None:
    """Write one SSH configuration for all machines, direct or through the relay, and beside it the one that swarm makes for itself."""
    os.environ["SWARM_STATE"] = str(path.with_suffix(".state"))
    pins = world.folder / "bench.known_hosts"
    entries = []
    with pins.open("w") as file:
        for machine in machines:
            key = (machine.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()
            address, port = ("10.77.0.1", 2200 + machine.number) if far else (machine.ip, 22)
            # ansible and pyinfra look keys up by different names; all of them are pinned.
            for name in (machine.alias, machine.ip, f"[10.77.0.1]:{2200 + machine.number}", "10.77.0.1"):
                file.write(f"{name} {key}\n")
            ssh.write_config(
                ssh.Target(machine.alias, address, pins, "root", world.key, port=port, near=True)
            )
            entries.append(
                f"Host {machine.alias}\n  HostName {address}\n  Port {port}\n  User root\n  HostKeyAlias {machine.alias}\n"
                f"  IdentityFile {world.key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n  UserKnownHostsFile {pins}\n"
                f"  KexAlgorithms {KEX}\n"
            )
    path.write_text("".join(entries))


# ── the measurement ────────────────────────────────────────────────────────────────────────────────────────────────


class Took(NamedTuple):
    """What one run took, in seconds: by the clock, and of CPU on this side. What the machines do at the other end is not in the latter."""

    seconds: float
    cpu: float


class Bench:
    """The machines and the ways to configure them."""

    def __init__(self, world: World, count: int, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.machines = [world.machine() for _ in range(count)]
        self.programs = environment(folder / "peers")
        write_peers(folder)
        for far in (False, True):
            write_config(world, self.machines, self.config(far=far), far=far)

    def config(self, *, far: bool) -> Path:
        """The SSH configuration at 0 or 20 ms."""
        return self.folder / ("far.config" if far else "near.config")

    def own_config(self, *, far: bool) -> Path:
        """The same as swarm makes it for its own hosts."""
        return self.config(far=far).with_suffix(".state") / "ssh" / "config"

    def command(
        self, tool: str, names: list[str], *, far: bool, again: bool
    ) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment of one run."""
        config = self.config(far=far)
        variables = {
            "HOME": str(self.folder),
            "ANSIBLE_SSH_ARGS": f"-F {config} -o ControlMaster=auto -o ControlPersist=60s",
        }
        if tool == "ansible-core":
            inventory = self.folder / "hosts.ini"
            inventory.write_text("\n".join(names) + "\n")
            return [
                str(self.programs / "ansible-playbook"),
                "-i",
                str(inventory),
                "-f",
                "8",
                str(self.folder / "play.yml"),
            ], variables
        if tool == "pyinfra":
            known = self.world.folder / "bench.known_hosts"
            inventory = self.folder / "inventory.py"
            hosts = [
                (
                    name,
                    {
                        "ssh_config_file": str(config),
                        "ssh_known_hosts_file": str(known),
                        "ssh_strict_host_key_checking": "yes",
                    },
                )
                for name in names
            ]
            inventory.write_text(f"hosts = {hosts!r}\n")
            return [
                str(self.programs / "pyinfra"),
                "-y",
                str(inventory),
                str(self.folder / "deploy.py"),
            ], variables
        if tool == "swarm":
            return [
                sys.executable,
                str(Path(__file__).with_name("ours.py")),
                str(self.own_config(far=far)),
                *names,
            ], {}
        # The floor: nothing but a connection to each host, all at once; again: the connections that swarm has kept.
        own = [
            [
                "ssh",
                "-F",
                str(self.own_config(far=far)),
                *Remote(self.own_config(far=far), name).options(),
                name,
            ]
            for name in names
        ]
        calls = own if again else [["ssh", "-F", str(config), name] for name in names]
        return ["sh", "-c", "".join(f"{join(words)} true & " for words in calls) + "wait"], {}

    def run(self, tool: str, count: int, *, far: bool, again: bool = False) -> Took:
        """Run a tool on the first `count` machines and return what it took; `again`: with the connections that it kept."""
        names = [machine.alias for machine in self.machines[:count]]
        if not again:
            self.forget(tool, names, far=far)
        command, variables = self.command(tool, names, far=far, again=again)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            self.world.inside(*command),
            check=False,
            capture_output=True,
            text=True,
            env={**ENVIRONMENT, **variables},
            cwd=self.folder,
        )
        seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{tool} failed:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        return Took(seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    def forget(self, tool: str, names: list[str], *, far: bool) -> None:
        """End every connection that the tool keeps, so that its next run connects anew."""
        for name in names if tool == "swarm" else ():
            Remote(self.own_config(far=far), name).close()
        for path in (self.folder / ".ansible" / "cp").glob("*") if tool == "ansible-core" else ():
            inside = self.world.inside("ssh", "-o", f"ControlPath={path}", "-O", "exit", "any")
            subprocess.run(inside, check=False, capture_output=True)

    def each(self, script: str, count: int) -> list[str]:
        """Run shell on the first `count` machines, aside from any measurement."""
        return [machine.ssh(script) for machine in self.machines[:count]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one host, no added round trip")
    parser.add_argument("--relay", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay:
        asyncio.run(relay([(int(pair.split("=")[0]), pair.split("=")[1]) for pair in options.relay]))
        return
    from tests.nspawn.machine import World, missing

    if lacking := missing():
        sys.exit(f"this needs {', '.join(lacking)}")
    with World() as world, tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder:
        bench = Bench(world, 1 if options.quick else options.hosts, Path(folder))
        pairs = [f"{2200 + machine.number}={machine.ip}" for machine in bench.machines]
        relaying = subprocess.Popen(
            world.inside(sys.executable, __file__, "--relay", *pairs), stdout=subprocess.PIPE
        )
        assert relaying.stdout is not None  # noqa: S101 - a pipe, as asked for above
        relaying.stdout.readline()
        try:
            report(bench, measure(bench, options.rounds, quick=options.quick))
        finally:
            for far in (False, True):
                for tool in TOOLS:
                    bench.forget(tool, [machine.alias for machine in bench.machines], far=far)
            relaying.terminate()
            relaying.wait()


TOOLS = ("ansible-core", "pyinfra", "swarm", "ssh true")
Key = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """What is measured: on how many hosts, at which round trip, and whether the connections of the run before are still there."""

    count: int
    first: bool = False
    far: bool = False
    again: bool = False

    @property
    def name(self) -> str:
        """A line of the table."""
        words = [
            f"{self.count} host{'s' if self.count > 1 else ''}",
            "first run" if self.first else "unchanged",
        ]
        return ", ".join(words + ["20 ms"] * self.far + ["again"] * self.again)


def measure(bench: Bench, rounds: int, *, quick: bool) -> dict[Key, list[Took]]:
    """Return what every run took, by tool and case. All tools take turns within a round."""
    many = len(bench.machines)
    # An "again" comes right after its like, before ansible's own connections (60 s) or ours (120 s) are given up.
    cases = [Case(1, first=True), Case(1), Case(1, again=True)]
    if not quick:
        cases += [
            Case(1, far=True),
            Case(1, far=True, again=True),
            Case(many, first=True),
            Case(many),
            Case(many, again=True),
        ]
        cases += [Case(many, far=True), Case(many, far=True, again=True)]
    times: dict[Key, list[Took]] = {}
    for number in range(rounds):
        for case in cases:
            states = {}
            for tool in TOOLS:
                if tool == "ssh true" and case.first:
                    continue
                if case.first:
                    bench.each(RESET, case.count)
                took = bench.run(tool, case.count, far=case.far, again=case.again)
                times.setdefault((tool, case.name), []).append(took)
                if tool != "ssh true":
                    states[tool] = bench.each(STATE, case.count)
                print(
                    f"round {number + 1}: {case.name}: {tool}: {took.seconds:.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
            compare(states)
    return times


def compare(states: dict[str, list[str]]) -> None:
    """Stop if two tools left different end states."""
    first = states["ansible-core"]
    for tool, state in states.items():
        if state != first:
            sys.exit(f"{tool} left another end state than ansible-core:\n{state[0]}\n---\n{first[0]}")


def report(bench: Bench, times: dict[Key, list[Took]]) -> None:
    """Print medians, ratios, and whether the project's goals are met."""
    cases = list(dict.fromkeys(case for _, case in times))
    median = {key: statistics.median(took.seconds for took in values) for key, values in times.items()}
    cpu = {key: statistics.median(took.cpu for took in values) for key, values in times.items()}
    print(f"{'':32}" + "".join(f"{tool:>14}" for tool in TOOLS))
    for case in cases:
        print(
            f"{case:32}"
            + "".join(
                f"{median[tool, case]:12.2f} s" if (tool, case) in median else f"{'–':>14}" for tool in TOOLS
            )
        )
    print("\nswarm's part of the others' time:")
    for case in cases:
        ratios = [median["swarm", case] / median[tool, case] for tool in TOOLS[:2]]
        goals = GOALS.get(case.removesuffix(", again"), (None, None))
        parts = [
            f"{ratio:.3f} × {tool}{verdict(ratio, goal)}"
            for ratio, tool, goal in zip(ratios, TOOLS, goals, strict=False)
        ]
        print(f"{case:32}{', '.join(parts)}")
    many = len(bench.machines)
    for suffix in ("", ", again", ", 20 ms", ", 20 ms, again"):
        one, case = f"1 host, unchanged{suffix}", f"{many} hosts, unchanged{suffix}"
        if ("swarm", case) in median:
            ratio, floor = (median[tool, case] / median[tool, one] for tool in ("swarm", "ssh true"))
            own = cpu["swarm", case] / cpu["swarm", one]
            bare = f"ssh true alone: {floor:.2f} ×"
            print(
                f"{case}: {ratio:.2f} × one host{verdict(ratio, 1.5)}; {bare}; CPU of swarm itself, without the targets': {own:.2f} ×"
            )


GOALS = {"1 host, unchanged": (0.07, 0.2), "1 host, unchanged, 20 ms": (0.035, 0.15)}


def verdict(value: float, limit: float | None) -> str:
    """Say whether a goal is met on this machine at this moment."""
    return f" ({'PASS' if value <= limit else 'FAIL'}, at most {limit})" if limit else ""


if __name__ == "__main__":
    main()
