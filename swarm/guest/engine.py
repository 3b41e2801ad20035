"""The engine: all probes of a host in one round trip, the difference as a pure function of the facts, the changes level by level.

A `Step` is one thing on the host. Its probe is shell that reads and prints a fact; `apply` turns that fact into the shell
that is missing, or None. Steps that come `after` others wait for them, and are probed again before their turn, so that they act
on what is true then. After its change a step is probed once more: if it still wants to change something, that is a failure.

    probe script ─► facts ─► due steps ─► script of level 1 + probes ─► facts ─► … ─► nothing is due
"""

from __future__ import annotations

import difflib
import secrets
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from rich.markup import escape

from swarm.errors import CommandFailed, Refused, VerificationFailed
from swarm.paths import ROOT
from swarm.plan import Action, Change, Plan
from swarm.remote import ConnectionLost, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from swarm.console import Deadline, Talk
    from swarm.remote import Remote

__all__ = ["BUNDLE", "PRIVATE_AUTHORITIES", "Step", "as_user", "converge", "difference", "mask", "observe", "plan", "prelude", "unified"]

_TAIL = 12  # lines of a failed step's output that its error shows
_LOCK = "/run/lock/swarm-guest"  # gone after a reboot, as it should be
_LOCK_WAIT = 900  # seconds: the longest single step, an OpenClaw installation under emulation, takes that long
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # what update-ca-certificates writes, and nearly all programs read
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
    `files` are those that the probe asks file_fact for: they are looked at together, before all probes.
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
    files: tuple[str, ...] = ()


@cache
def prelude() -> str:
    """Return the shell functions that every script begins with."""
    return (ROOT / "templates" / "guest" / "prelude.sh").read_text(encoding="utf-8")


def as_user(name: str, script: str) -> str:
    """Return shell that runs `script` as the user `name`. The script goes through a pipe, so no process list shows it."""
    return f"printf '%s\\n' {quote(prelude() + 'set -eu' + chr(10) + script)} | as_user {quote(name)}"


def mask(text: str, hidden: Iterable[str]) -> str:
    """Return `text` with every secret replaced by dots."""
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        text = text.replace(secret, "••••")
    return text


def unified(before: str, after: str, name: str) -> str:
    """Return the unified diff of a file's two contents; empty if they are the same."""
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} (now)", f"{name} (wanted)", lineterm="", n=2))


def observe(remote: Remote, steps: Sequence[Step], deadline: Deadline | None = None) -> dict[str, str]:
    """Return every step's fact, by subject, after one round trip. Nothing is changed on the host."""
    mark = _mark()
    outcome = remote.run(f"{_ENVIRONMENT}{prelude()}\n{_wait_for_lock(mark)}\n{_probes(steps, mark)}", deadline=deadline)
    return _facts(remote.alias, steps, outcome.output, mark)


def difference(steps: Sequence[Step], facts: dict[str, str], *, begun: bool = False) -> list[Step]:
    """Return the steps that are due, given the facts. Raise Refused with all the reasons if a step says that this can't be done."""
    reasons = [reason for step in steps if (reason := step.refuse(facts[step.subject]))]
    if reasons:
        raise Refused(
            "; ".join(reasons), "what was done before this stays; mend the cause and run the same again" if begun else "nothing was changed"
        )
    return [step for step in steps if step.apply(facts[step.subject]) is not None]


def plan(host: str, steps: Sequence[Step], facts: dict[str, str]) -> Plan:
    """Return what would change, in the order in which it would; what hangs on a change that is not made yet is not certain."""
    hidden = _secrets(steps)
    due = {step.subject for step in difference(steps, facts)}
    uncertain: set[str] = set()
    changes = []
    for step in [step for level in _levels(steps) for step in level]:
        waits = {*step.after, *step.reacts_to} & (due | uncertain)
        if step.subject in due or set(step.reacts_to) & (due | uncertain):
            if waits:
                uncertain.add(step.subject)
            changes.append(_change(step, facts[step.subject], certain=not waits, hidden=hidden))
    return Plan(host, tuple(changes))


def converge(remote: Remote, steps: Sequence[Step], talk: Talk, *, plan_only: bool = False, deadline: Deadline | None = None) -> Plan:
    """Bring the host to the wanted state and return what was changed; with `plan_only`, show and return what would be.

    Raise Refused before anything is changed, CommandFailed when a step fails, VerificationFailed when one has no effect,
    and Unreachable when the connection breaks. After each of them the next run goes on where this one stopped.
    """
    _check_names(steps)
    facts = observe(remote, steps, deadline)
    todo = plan(remote.alias, steps, facts)
    if plan_only or not todo:
        show(todo, talk)
        return todo
    hidden = _secrets(steps)
    done: list[Change] = []
    remaining = _with_dependents(steps, {change.subject for change in todo})
    while remaining:
        names = {step.subject for step in remaining}
        level = [step for step in remaining if not names & {*step.after, *step.reacts_to}]
        work = [(step, script) for step in level if (script := step.apply(facts[step.subject])) is not None]
        remaining = [step for step in remaining if step not in level]
        if work:
            done += [_change(step, facts[step.subject], certain=True, hidden=hidden) for step, _ in work]
            facts |= _apply(remote, work, remaining, talk, hidden, deadline)
            left = {step.subject for step in difference([step for step, _ in work] + remaining, facts, begun=True)}
            for step, _ in work:
                if step.subject in left:
                    fact = facts[step.subject]
                    now = mask(step.shown(fact) or fact.partition("\n")[0] or "nothing", hidden)
                    where = f"{remote.alias}: {step.subject}"
                    found = f"wanted {mask(step.wanted, hidden)}, found {now}"
                    raise VerificationFailed(f"{where}: the change ran without an error but had no effect: {found}")
    return Plan(remote.alias, tuple(done))


def show(todo: Plan, talk: Talk) -> None:
    """Write a plan line by line, with the diffs of files."""
    if not todo:
        talk.say("nothing to do")
    for change in todo:
        talk.say(change.line())
        for line in (change.detail or "").splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            talk.screen.line(f"{talk.prefix}    [{colour}]{escape(line)}[/]" if colour else f"{talk.prefix}    {escape(line)}")


def _change(step: Step, fact: str, *, certain: bool, hidden: Sequence[str]) -> Change:
    before, diff = step.shown(fact), step.diff(fact)
    action: Action = "run" if step.subject.startswith("command ") else "create" if before is None else "update"
    return Change(
        action,
        step.subject,
        mask(before, hidden) if before else None,
        mask(step.wanted, hidden),
        certain=certain,
        detail=mask(diff, hidden) if diff else None,
    )


def _apply(
    remote: Remote, work: Sequence[tuple[Step, str]], later: Sequence[Step], talk: Talk, hidden: Sequence[str], deadline: Deadline | None
) -> dict[str, str]:
    """Run one level, report each step as it ends, and return the new facts of its steps and of those that still wait."""
    mark = _mark()
    again = [*(step for step, _ in work), *later]
    functions = "\n".join(f"swarm_step_{index}() {{\n{script}\n}}" for index, (_, script) in enumerate(work))
    calls = "\n".join(f"swarm_run {index}" for index in range(len(work)))
    parts = (_ENVIRONMENT, prelude(), _wait_for_lock(mark), _RUNNER.replace("@MARK@", mark), functions, calls, _probes(again, mark))
    script = "\n".join(parts)
    reporter = _Reporter(remote.alias, [step.subject for step, _ in work], mark, talk, hidden)
    with reporter:
        try:
            outcome = remote.run(script, reporter.line, deadline)
        except ConnectionLost as error:
            raise ConnectionLost(
                f"{remote.alias}: the connection broke during {reporter.current or 'the start of the work'}", error.hint
            ) from None
        reporter.judge(outcome.code)
    return _facts(remote.alias, again, outcome.output, mark)


# One step: in a subshell of its own, so that no umask, cd or variable of it reaches another one. Its output goes through a
# reader that keeps draining when the connection breaks, so that the step (a running dpkg!) ends in peace; the script itself
# then stops at its next line.
_RUNNER = r"""
swarm_run() {
  printf '\n%s begin %s\n' '@MARK@' "$1"
  code=$( {
    { ( umask 022; cd /; set -eu; "swarm_step_$1" ) </dev/null 3>&- 4>&- 9>&-; echo "$?" >&4; } 2>&1 |
      ( trap '' PIPE; cat 2>/dev/null; cat >/dev/null ) >&3
  } 4>&1 )
  printf '\n%s end %s %s\n' '@MARK@' "$1" "$code"
  if [ "$code" != 0 ]; then exit 74; fi
}
exec 3>&1
"""


def _wait_for_lock(mark: str) -> str:
    """Shell that waits for an earlier run, which may still be finishing its last step after its connection broke."""
    return f"exec 9>{_LOCK} || exit 73\nflock -n 9 || {{ printf '\\n%s busy\\n' '{mark}'; flock -w {_LOCK_WAIT} 9 || exit 75; }}"


def _probes(steps: Sequence[Step], mark: str) -> str:
    """Shell that prints each step's fact between two marks. A probe runs in a subshell of its own, and its warnings are not facts."""
    files = sorted({path for step in steps for path in step.files})
    look = f"known_files {quote(*files)} 9>&-\n" if files else ""
    return look + "\n".join(
        f"printf '%s fact %s\\n' '{mark}' {index}\n"
        f"( set +eu; {step.probe}\n) </dev/null 2>/dev/null 9>&-\n"
        f"printf '\\n%s done %s\\n' '{mark}' \"$?\""
        for index, step in enumerate(steps)
    )


def _facts(alias: str, steps: Sequence[Step], output: bytes, mark: str) -> dict[str, str]:
    """Cut the facts out of the output; between two marks any bytes may stand."""
    facts: dict[str, str] = {}
    for part in output.split(f"{mark} fact ".encode())[1:]:
        number, _, rest = part.partition(b"\n")
        fact, found, code = rest.partition(f"\n{mark} done ".encode())
        step = steps[int(number)]
        if not found or int(code.split()[0]):
            raise CommandFailed(f"{alias}: looking at {step.subject} failed" + (f" with exit code {int(code.split()[0])}" if found else ""))
        facts[step.subject] = fact.removesuffix(b"\n").decode("utf-8", "surrogateescape")
    if len(facts) != len(steps):
        raise CommandFailed(
            f"{alias}: the host answered only {len(facts)} of {len(steps)} questions",
            "is another run still at work there, or is /run full?",
        )
    return facts


class _Reporter:
    """Follows a level's output and shows each step as it runs and ends."""

    def __init__(self, alias: str, subjects: Sequence[str], mark: str, talk: Talk, hidden: Sequence[str]) -> None:
        self._alias, self._subjects, self._mark, self._talk, self._hidden = alias, subjects, mark, talk, hidden
        self._running = ExitStack()
        self._note: Callable[[str], None] | None = None
        self.current = ""
        self._tail: deque[str] = deque(maxlen=_TAIL)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(*error)  # type: ignore[arg-type]

    def line(self, line: str) -> None:
        """Take one line of the output."""
        if line.startswith(self._mark):
            word, *rest = line[len(self._mark) :].split()
            if word == "busy":
                self._talk.say("an earlier run is still finishing a step on this host; waiting for it")
            elif word == "begin":
                self.current = self._subjects[int(rest[0])]
                self._tail.clear()
                self._note = self._running.enter_context(self._talk.step(self.current)).note
            elif word == "end" and rest[1] == "0":
                self._running.close()
                self._note = None
        elif self._note and line.strip():
            text = mask(line, self._hidden)
            self._tail.append(text)
            self._note(text.strip()[:100])

    def judge(self, code: int) -> None:
        """Raise the error that an exit code other than 0 stands for."""
        if code == 75:  # noqa: PLR2004 - given by _wait_for_lock
            raise CommandFailed(
                f"{self._alias}: an earlier run still holds the host after {_LOCK_WAIT} s",
                "find out on the host what hangs: ps -ef --forest",
            )
        if code and self._note:
            words = "\n".join(f"    {line}" for line in self._tail) or "    (it printed nothing)"
            raise CommandFailed(
                f"{self._alias}: {self.current} failed:\n{words}",
                "mend the cause and run the same command again: it continues with this step",
            )
        if code:
            raise CommandFailed(f"{self._alias}: the host could not run the script (exit code {code})", "\n".join(self._tail) or None)


def _mark() -> str:
    return f"\x1e{secrets.token_hex(12)}"


def _secrets(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple({secret for step in steps for secret in step.secrets})


def _check_names(steps: Sequence[Step]) -> None:
    """A subject that occurs twice, or one that waits for nothing that exists, is a mistake in the program or in a customize list."""
    seen: set[str] = set()
    for step in steps:
        if step.subject in seen:
            raise Refused(f"{step.subject} is stated twice", "state each thing once")
        seen.add(step.subject)
    for step in steps:
        missing = {*step.after, *step.reacts_to} - seen
        assert not missing, f"{step.subject} waits for unknown steps: {sorted(missing)}"  # noqa: S101 - a mistake of ours, not the user's


def _levels(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps in the order of their dependencies."""
    rest, levels = list(steps), []
    while rest:
        names = {step.subject for step in rest}
        level = [step for step in rest if not names & {*step.after, *step.reacts_to}]
        assert level, f"these steps wait for each other: {sorted(names)}"  # noqa: S101 - a mistake of ours, not the user's
        levels.append(level)
        rest = [step for step in rest if step not in level]
    return levels


def _with_dependents(steps: Sequence[Step], names: set[str]) -> list[Step]:
    """The named steps, and all that come after one of them."""
    names = set(names)
    for step in [step for level in _levels(steps) for step in level]:
        if names & {*step.after, *step.reacts_to}:
            names.add(step.subject)
    return [step for step in steps if step.subject in names]
