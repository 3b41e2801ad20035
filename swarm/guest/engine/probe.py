"""What a step is, and how all steps of a host are looked at: one script, one round trip, one fact for each.

A `Step` is one thing on the host. Its probe is shell that reads and prints a fact; `apply` turns that fact into the shell
that is missing, or None. What the shell functions are that probes and changes use stands in templates/guest/prelude.sh.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed
from swarm.paths import ROOT
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from swarm.deadline import Deadline
    from swarm.ssh.remote import Remote

__all__ = [
    "BUNDLE",
    "LOCK_WAIT",
    "PRIVATE_AUTHORITIES",
    "Step",
    "as_user",
    "new_mark",
    "observe",
    "opening",
    "prelude",
    "probes",
    "read_facts",
]

# Held while changes are made, and not empty as long; gone after a reboot, as it should be. /run/lock would let anybody hold it.
_LOCK = "/run/swarm-guest.lock"
LOCK_WAIT = 900  # seconds: the longest single step, an OpenClaw installation under emulation, takes that long
_NOBODY = "nobody of that name"
BUNDLE = (
    "/etc/ssl/certs/ca-certificates.crt"  # what update-ca-certificates writes, and nearly all programs read
)
PRIVATE_AUTHORITIES = "/usr/local/share/ca-certificates/swarm-*.crt"  # what guest/trust.py puts there

# Node has a list of authorities of its own; where the guest trusts more, it is told.
_ENVIRONMENT = f"""export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
set -- {PRIVATE_AUTHORITIES}
[ ! -e "$1" ] || export NODE_EXTRA_CA_CERTS={BUNDLE}
"""


def _nothing(_fact: str) -> None:
    return None


@dataclass(frozen=True)
class Step:
    """One thing on a host.

    `subject` names it. `probe` is read-only shell; what it prints is the fact. `wanted` says in a few words what should be.
    `apply` is given the fact and returns the shell that gets there, or None if nothing is missing. `after` names the subjects
    that must be done before; `reacts_to` those whose change makes one here likely even if all is well now.
    `refuse` is given the fact and says why the whole work cannot be done; it is asked before anything is changed.
    `shown` says what the fact means to people, `diff` what would change in a file. `secrets` never appear in any output.
    `known` are the words that the prelude's function known_KEY is given before all probes, by KEY: what many of them need is asked for
    in one go. A probe runs as `reader` (root if empty); if there is no such user, `unread` is the fact.
    """

    subject: str
    probe: str
    wanted: str
    apply: Callable[[str], str | None] = _nothing
    after: tuple[str, ...] = ()
    reacts_to: tuple[str, ...] = ()
    refuse: Callable[[str], str | None] = _nothing
    shown: Callable[[str], str | None] = _nothing
    diff: Callable[[str], str | None] = _nothing
    secrets: tuple[str, ...] = field(default=(), repr=False)
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reader: str = ""
    unread: str = ""


@cache
def prelude() -> str:
    """Return the shell functions that every script begins with, without the lines that only people need."""
    text = (ROOT / "templates" / "guest" / "prelude.sh").read_text(encoding="utf-8")
    return "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("# "))


def opening(mark: str, *, changing: bool = False) -> str:
    """Return what every script begins with: its environment, the prelude, and the wait for an earlier run.

    That one may still be finishing its last step after its connection broke. `changing` is for a script that makes changes itself;
    the others spare themselves the program that asks for the lock while it is free. What `mark` is, new_mark() says.
    """
    lock = f"exec 9>>{_LOCK} || exit 73\nflock -n 9 || {{ printf '\\n%s busy\\n' '{mark}'; flock -w {LOCK_WAIT} 9 || exit 75; }}"
    if changing:
        lock += f"\ntrap ': >{_LOCK}' EXIT\necho at work >&9"
    else:
        lock = f"if [ -s {_LOCK} ]; then\n{lock}\n: >{_LOCK}\nfi"
    return f'{_ENVIRONMENT}swarm_prelude={quote(prelude())}\neval "$swarm_prelude"\n{lock}\n'


def as_user(name: str, script: str) -> str:
    """Return shell that runs `script` as the user `name`. The script goes through a pipe, so no process list shows it."""
    return f"printf '%s\\n' \"$swarm_prelude\" {quote(f'set -eu{chr(10)}{script}')} | as_user {quote(name)}"


def new_mark() -> str:
    """Return a word that no fact can hold, since nobody can guess it: it stands where facts begin and end."""
    return f"\x1e{secrets.token_hex(12)}"


def observe(
    remote: Remote, steps: Sequence[Step], deadline: Deadline | None = None
) -> Callable[[], dict[str, str]]:
    """Ask the host for every step, in one round trip, and return the function that waits for the facts and returns them by subject.

    Nothing is changed on the host. What the function raises, Remote.run() and read_facts() say.
    """
    mark = new_mark()
    answer = remote.begin(opening(mark) + probes(steps, mark), deadline=deadline)
    return lambda: read_facts(remote.alias, steps, answer().output, mark)


def probes(steps: Sequence[Step], mark: str) -> str:
    """Return shell that prints each step's fact between two marks. What a probe says on standard error is no fact.

    Probes share one shell, since each more of them costs a process. For the steps of another reader that is a shell of the reader's
    own: all that it prints is one fact here, with a mark of its own in it, so that nothing a user does passes for what root has seen.
    """
    known: dict[str, set[str]] = {}
    parts = []
    for index, step in enumerate(_asked(steps)):
        for key, words in step.known.items():
            known.setdefault(key, set()).update(words)
        probe = _reading(step.reader, _of(steps, step.reader), mark) if step.reader else step.probe
        parts.append(
            f"printf '%s fact %s\\n' '{mark}' {index}\n{probe}\nprintf '\\n%s done %s\\n' '{mark}' \"$?\""
        )
    look = [f"known_{key} {quote(*sorted(words))}" for key, words in sorted(known.items())]
    return "{\nset +eu\n" + "\n".join([*look, *parts]) + "\n} </dev/null 2>/dev/null 9>&-"


def _asked(steps: Sequence[Step]) -> list[Step]:
    """What root is asked: its own steps, and one for all of each other reader's."""
    readers = dict.fromkeys(step.reader for step in steps if step.reader)
    return [
        *(step for step in steps if not step.reader),
        *(Step(f"what {reader} has", "", "", reader=reader) for reader in readers),
    ]


def _of(steps: Sequence[Step], reader: str) -> list[Step]:
    """The steps of a reader, as the reader's own shell sees them."""
    return [replace(step, reader="") for step in steps if step.reader == reader]


def _reading(reader: str, steps: Sequence[Step], mark: str) -> str:
    script = as_user(reader, probes(steps, _mark_for(reader, mark)))
    return f"if id -u {quote(reader)} >/dev/null; then {script}; else echo {_NOBODY}; fi"


def _mark_for(reader: str, mark: str) -> str:
    """The reader's mark, which does not tell root's."""
    return mark[:1] + hashlib.sha256(f"{mark} {reader}".encode()).hexdigest()[:24]


def read_facts(alias: str, steps: Sequence[Step], output: bytes, mark: str) -> dict[str, str]:
    """Return every step's fact, cut out of the output of probes(); between two marks any bytes may stand.

    Raise CommandFailed if a probe failed, or if there are fewer facts than steps.
    """
    asked, found = _asked(steps), dict[str, str]()
    for part in output.split(f"{mark} fact ".encode())[1:]:
        number, _, rest = part.partition(b"\n")
        fact, ended, code = rest.partition(f"\n{mark} done ".encode())
        try:
            step, status = asked[int(number)], int(code.split()[0]) if ended else None
        except (ValueError, IndexError):
            raise CommandFailed(f"{alias}: an answer came that nobody asked for") from None
        if status != 0:
            raise CommandFailed(
                f"{alias}: looking at {step.subject} failed{f' with exit code {status}' if ended else ''}"
            )
        text = fact.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        if not step.reader:
            found[step.subject] = text
        elif text == _NOBODY:
            found |= {each.subject: each.unread for each in steps if each.reader == step.reader}
        else:
            found |= read_facts(alias, _of(steps, step.reader), fact, _mark_for(step.reader, mark))
    if len(found) != len(steps):
        raise CommandFailed(
            f"{alias}: the host answered only {len(found)} of {len(steps)} questions",
            "is another run still at work there, or is /run full?",
        )
    return found
