"""The text of the scripts that guests run: their opening, the probes, and the runner of steps.

Everything that the engine reads back is on lines of its own that begin with a mark:

    MARK beat               a sign of life, every 15 s in a step, in a slow probe, and while the run waits for the lock
    MARK busy               an earlier run holds the lock
    MARK begin N, MARK end N CODE       step N of this script
    MARK fact N, then the fact, then MARK done CODE     the answer to question N of the probes
    MARK no-user            instead of a fact: the user who should run the probe does not exist

The shell functions that probes and steps use are in templates/guest/prelude.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from swarm.paths import ROOT
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.guest.engine.step import Step

__all__ = [
    "BUNDLE",
    "LOCK_BUSY",
    "LOCK_FAILED",
    "LOCK_WAIT",
    "PRIVATE_AUTHORITIES",
    "alone_as",
    "apart",
    "as_user",
    "changes",
    "mark_for",
    "new_mark",
    "of_reader",
    "opening",
    "prelude",
    "probes",
    "readers",
]

# Held, and not empty, while a run makes changes. A reboot removes it. Any user could hold a file in /run/lock.
_LOCK = "/run/swarm-guest.lock"
LOCK_WAIT = 900  # seconds: as long as the longest step takes, which is to install OpenClaw under emulation
_BEAT = 15  # seconds between two signs of life; ssh.session.Limits.silence allows for eight of them
LOCK_FAILED = (
    73  # exit codes of a script, beside those of sh: the lock's file cannot be opened (EX_CANTCREAT)
)
_STEP_FAILED = 74
LOCK_BUSY = 75  # another run held the lock until the end of LOCK_WAIT (EX_TEMPFAIL)

BUNDLE = (
    "/etc/ssl/certs/ca-certificates.crt"  # written by update-ca-certificates, and read by nearly all programs
)
PRIVATE_AUTHORITIES = "/usr/local/share/ca-certificates/swarm-*.crt"  # written by guest/install/trust.py

# Node has its own list of authorities, so it needs a pointer to the guest's.
_ENVIRONMENT = f"""export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
set -- {PRIVATE_AUTHORITIES}
[ ! -e "$1" ] || export NODE_EXTRA_CA_CERTS={BUNDLE}
"""

# The loop ends when its script ends or its output is closed. It and its sleep hold no descriptor that a run waits for.
_HEART = f"""swarm_beats() {{
  (
    while sleep {_BEAT} >/dev/null; do
      kill -0 "$$" || exit
      printf '%s beat\\n' '@MARK@'
    done
  ) </dev/null 2>/dev/null 9>&- &
  swarm_heart=$!
}}
swarm_quiet() {{ kill "$swarm_heart" 2>/dev/null || :; }}
"""

# "command" keeps a failed redirection from ending the shell before it can say why.
_TAKE_LOCK = f"""command exec 9>>{_LOCK} || exit {LOCK_FAILED}
swarm_beats
flock -n 9 || {{
  printf '%s busy\\n' '@MARK@'
  flock -w {LOCK_WAIT} 9 || {{ swarm_quiet; exit {LOCK_BUSY}; }}
}}"""

# Each step runs in a subshell of its own, so its umask, directory and variables do not reach another step. Its output
# goes through a reader that keeps draining after the connection breaks, so that the step (a running dpkg!) can finish.
# The script itself then stops at its next line. The reader ends with the step, at the line that follows its output:
# a process that the step left behind may hold the pipe for as long as it runs, and can go on writing to it. (A shell
# keeps a copy of what it redirects for a group of commands, and its children have that as well. Hence the "exec".)
# Perl is essential in Debian and Ubuntu, and passes each line on at once. `sed -u` also does, but reads single bytes.
_RUNNER = f"""swarm_run() {{
  printf '\\n%s begin %s\\n' '@MARK@' "$1"
  code=$( {{
    {{ exec 2>&1; ( umask 022; cd /; set -eu; "swarm_step_$1" ) </dev/null 3>&- 4>&- 9>&-
      echo "$?" >&4; printf '\\n%s\\n' '@ENDED@'; }} |
      ( trap '' PIPE; perl -ne 'BEGIN {{ $| = 1 }} last if /@ENDED@$/; print' 2>/dev/null
        {{ cat <&5 >/dev/null 2>&1 3>&- 4>&- 9>&- & }} 5<&0 ) >&3
  }} 4>&1 )
  printf '\\n%s end %s %s\\n' '@MARK@' "$1" "$code"
  if [ "$code" != 0 ]; then exit {_STEP_FAILED}; fi
}}
exec 3>&1
"""


_PRELUDE = ("files", "running", "states", "accounts", "firewall", "packages", "npm")


@cache
def prelude() -> str:
    """Return the shell functions that every script begins with, without their comments."""
    folder = ROOT / "templates" / "guest" / "prelude"
    text = "".join((folder / f"{name}.sh").read_text(encoding="utf-8") for name in _PRELUDE)
    return "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("# "))


def _functions() -> str:
    """Shell that defines the functions, and keeps their text for the shells of other users."""
    return f'swarm_prelude={quote(prelude())}\neval "$swarm_prelude"\n'


def new_mark() -> str:
    """Return a new random mark. A fact cannot contain it by chance, and only root's shell on the guest is given it."""
    return f"\x1e{secrets.token_hex(12)}"


def mark_for(reader: str, mark: str) -> str:
    """Return the mark for a user's own shell. It does not reveal root's."""
    return mark[:1] + hashlib.sha256(f"{mark} {reader}".encode()).hexdigest()[:24]


def opening(mark: str, *, changing: bool = False) -> str:
    """Return what every script begins with: the environment, the prelude, and the wait for an earlier run.

    After its connection broke, an earlier run may still be finishing its last step. With `changing` the script holds
    the lock until it ends. Without, it starts no program to ask for the lock while that is free.
    """
    if changing:
        lock = f"{_TAKE_LOCK}\ntrap 'swarm_quiet; : >{_LOCK}' EXIT\necho at work >&9"
    else:
        lock = f"if [ -s {_LOCK} ]; then\n{_TAKE_LOCK}\nswarm_quiet\n: >{_LOCK}\nfi"
    start = f"{_functions()}system_environment\n{_ENVIRONMENT}"
    return start + f"{_HEART}{lock}\n".replace("@MARK@", mark)


def as_user(name: str, script: str) -> str:
    """Return shell that runs `script` as the user `name`. It goes through a pipe, so no process list shows it."""
    whole = f"system_environment\nset -eu\n{apart(script)}"
    return f"printf '%s\\n' \"$swarm_prelude\" {quote(whole)} | as_user {quote(name)}"


def apart(script: str) -> str:
    """Return shell that runs `script` with no input, once it has been read whole.

    Otherwise a program in it that reads its input would take the rest of the script, and that would not run.
    """
    return f"swarm_work() {{\n:\n{script}\n}}\nswarm_work </dev/null"


def alone_as(name: str, script: str) -> str:
    """Return a whole script of its own, outside of the engine's conversation, that runs `script` as the user `name`."""
    return f"{_functions()}{as_user(name, script)}"


def changes(work: Sequence[str], mark: str) -> str:
    """Return shell that runs the given scripts in order and reports each. It stops at the first that fails."""
    functions = [f"swarm_step_{index}() {{\n{script}\n}}" for index, script in enumerate(work)]
    calls = [f"swarm_run {index}" for index in range(len(work))]
    # The list of processes shows this one to every user of the guest, so it must not reveal the other.
    runner = _RUNNER.replace("@MARK@", mark).replace("@ENDED@", mark_for("the end of a step", mark))
    return "\n".join([runner, *functions, *calls, "swarm_quiet"])


def readers(steps: Sequence[Step]) -> list[str]:
    """Return the users other than root who run probes, in the order of their first step."""
    return list(dict.fromkeys(step.reader for step in steps if step.reader))


def of_reader(steps: Sequence[Step], reader: str = "") -> list[Step]:
    """Return the steps whose probes `reader` runs (empty: root), as the reader's own shell sees them."""
    return [replace(step, reader="") for step in steps if step.reader == reader]


def probes(steps: Sequence[Step], mark: str) -> str:
    """Return shell that prints each step's fact between two marks. Standard error is not part of a fact.

    Question N is root's step N. The questions after those are one for each other reader. Root's probes share one shell,
    since each further shell costs a process. A reader's probes share a shell of that user: everything that it prints is
    one answer here, and has a mark of its own inside, so nothing that a user does can pass for what root has seen.
    """
    own = of_reader(steps)
    questions = [_beating(step.probe) if step.slow else step.probe for step in own]
    questions += [_ask_reader(name, steps, mark) for name in readers(steps)]
    parts = [
        f"printf '%s fact %s\\n' '{mark}' {index}\n{probe}\nprintf '\\n%s done %s\\n' '{mark}' \"$?\""
        for index, probe in enumerate(questions)
    ]
    return "{\nset +eu\n" + "\n".join([*_known(own), *parts]) + "\n} </dev/null 2>/dev/null 9>&-"


def _beating(probe: str) -> str:
    """Return the shell of a probe that may be silent for minutes, with signs of life and the same exit code."""
    return f'swarm_beats\n{probe}\n(code=$?; swarm_quiet; exit "$code")'


def _known(steps: Sequence[Step]) -> list[str]:
    """The calls of the functions that look things up for all probes at once."""
    known: dict[str, set[str]] = {}
    for step in steps:
        for key, arguments in step.known.items():
            known.setdefault(key, set()).update(arguments)
    return [f"known_{key} {quote(*sorted(arguments))}" for key, arguments in sorted(known.items())]


def _ask_reader(reader: str, steps: Sequence[Step], mark: str) -> str:
    script = as_user(reader, probes(of_reader(steps, reader), mark_for(reader, mark)))
    return f"if id -u {quote(reader)} >/dev/null; then {script}; else printf '%s no-user\\n' '{mark}'; fi"
