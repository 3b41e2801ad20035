"""The engine: all probes of a host in one round trip, the difference as a pure function of the facts, the changes level by level.

Steps that come `after` others wait for them, and are probed again before their turn, so that they act on what is true then.
After its change a step is probed once more: if it still wants to change something, that is a failure.

    probe script ─► facts ─► due steps ─► script of level 1 + probes ─► facts ─► … ─► nothing is due
"""

from __future__ import annotations

import difflib
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, Refused, VerificationFailed
from swarm.guest.engine.probe import LOCK_WAIT, new_mark, observe, opening, probes, read_facts
from swarm.plan import Action, Change, Plan
from swarm.ssh.remote import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.guest.engine.probe import Step
    from swarm.ssh.remote import Remote

__all__ = ["converge", "difference", "mask", "plan", "unified"]

_TAIL = 12  # lines of a failed step's output that its error shows


def mask(text: str, hidden: Iterable[str]) -> str:
    """Return `text` with every secret replaced by dots."""
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        text = text.replace(secret, "••••")
    return text


def unified(before: str, after: str, name: str) -> str:
    """Return the unified diff of a file's two contents; empty if they are the same."""
    return "\n".join(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"{name} (now)", f"{name} (wanted)", lineterm="", n=2
        )
    )


def difference(steps: Sequence[Step], facts: dict[str, str], *, begun: bool = False) -> list[Step]:
    """Return the steps that are due, given the facts. Raise Refused with all the reasons if a step says that this can't be done."""
    reasons = [reason for step in steps if (reason := step.refuse(facts[step.subject]))]
    if reasons:
        raise Refused(
            "; ".join(reasons),
            "what was done before this stays; mend the cause and run the same again"
            if begun
            else "nothing was changed",
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


def converge(
    remote: Remote,
    steps: Sequence[Step],
    talk: Talk,
    *,
    plan_only: bool = False,
    deadline: Deadline | None = None,
    asked: Callable[[], dict[str, str]] | None = None,
) -> Plan:
    """Bring the host to the wanted state and return what was changed; with `plan_only`, show and return what would be.

    `asked` is what observe() returned for these steps, if the host was asked already.
    Raise Refused before anything is changed, CommandFailed when a step fails, VerificationFailed when one has no effect,
    and Unreachable when the connection breaks. After each of them the next run goes on where this one stopped.
    """
    _check_names(steps)
    answer = asked or observe(remote, steps, deadline)
    talk.screen.load()  # while the host answers
    facts = answer()
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
            left = {
                step.subject for step in difference([step for step, _ in work] + remaining, facts, begun=True)
            }
            for step, _ in work:
                if step.subject in left:
                    fact = facts[step.subject]
                    now = mask(step.shown(fact) or fact.partition("\n")[0] or "nothing", hidden)
                    where = f"{remote.alias}: {step.subject}"
                    found = f"wanted {mask(step.wanted, hidden)}, found {now}"
                    raise VerificationFailed(
                        f"{where}: the change ran without an error but had no effect: {found}"
                    )
    return Plan(remote.alias, tuple(done))


def show(todo: Plan, talk: Talk) -> None:
    """Write a plan line by line, with the diffs of files."""
    from swarm.console import escape

    if not todo:
        talk.say("nothing to do")
    for change in todo:
        talk.say(change.line())
        for line in (change.detail or "").splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            talk.screen.line(
                f"{talk.prefix}    [{colour}]{escape(line)}[/]"
                if colour
                else f"{talk.prefix}    {escape(line)}"
            )


def _change(step: Step, fact: str, *, certain: bool, hidden: Sequence[str]) -> Change:
    before, diff = step.shown(fact), step.diff(fact)
    action: Action = (
        "run" if step.subject.startswith("command ") else "create" if before is None else "update"
    )
    return Change(
        action,
        step.subject,
        mask(before, hidden) if before else None,
        mask(step.wanted, hidden),
        certain=certain,
        detail=mask(diff, hidden) if diff else None,
    )


def _apply(
    remote: Remote,
    work: Sequence[tuple[Step, str]],
    later: Sequence[Step],
    talk: Talk,
    hidden: Sequence[str],
    deadline: Deadline | None,
) -> dict[str, str]:
    """Run one level, report each step as it ends, and return the new facts of its steps and of those that still wait."""
    mark = new_mark()
    again = [*(step for step, _ in work), *later]
    functions = "\n".join(f"swarm_step_{index}() {{\n{script}\n}}" for index, (_, script) in enumerate(work))
    calls = "\n".join(f"swarm_run {index}" for index in range(len(work)))
    parts = (
        opening(mark, changing=True),
        _RUNNER.replace("@MARK@", mark),
        functions,
        calls,
        probes(again, mark),
    )
    script = "\n".join(parts)
    reporter = _Reporter(remote.alias, [step.subject for step, _ in work], mark, talk, hidden)
    with reporter:
        try:
            outcome = remote.run(script, reporter.line, deadline)
        except ConnectionLost as error:
            raise ConnectionLost(
                f"{remote.alias}: the connection broke during {reporter.current or 'the start of the work'}",
                error.hint,
            ) from None
        reporter.judge(outcome.code)
    return read_facts(remote.alias, again, outcome.output, mark)


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


class _Reporter:
    """Follows a level's output and shows each step as it runs and ends."""

    def __init__(
        self, alias: str, subjects: Sequence[str], mark: str, talk: Talk, hidden: Sequence[str]
    ) -> None:
        self._alias, self._subjects, self._mark, self._talk, self._hidden = (
            alias,
            subjects,
            mark,
            talk,
            hidden,
        )
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
                f"{self._alias}: an earlier run still holds the host after {LOCK_WAIT} s",
                "find out on the host what hangs: ps -ef --forest",
            )
        if code and self._note:
            words = "\n".join(f"    {line}" for line in self._tail) or "    (it printed nothing)"
            raise CommandFailed(
                f"{self._alias}: {self.current} failed:\n{words}",
                "mend the cause and run the same command again: it continues with this step",
            )
        if code:
            raise CommandFailed(
                f"{self._alias}: the host could not run the script (exit code {code})",
                "\n".join(self._tail) or None,
            )


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
