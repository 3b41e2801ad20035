"""The engine's conversation with a guest: one script asks for all facts, one script for each level makes its changes.

    probes ─► facts ─► plan ─► script of level 1 + probes of what waits ─► facts ─► … ─► nothing is left

A step that comes `after` others waits for them and is probed again before its turn, so it acts on what is true then.
After its change a step is probed once more: if its state is still not as wanted, that is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.errors import VerificationFailed
from swarm.guest.engine.difference import change, difference, plan, read, secrets_of, state
from swarm.guest.engine.facts import FactReader
from swarm.guest.engine.graph import check_names, levels, with_dependents
from swarm.guest.engine.progress import Reporter
from swarm.guest.engine.script import LOCK_WAIT, changes, new_mark, opening, probes
from swarm.guest.engine.shown import mask
from swarm.guest.engine.talker import limits
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile
from swarm.ssh.reasons import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.guest.engine.step import Step
    from swarm.guest.engine.talker import Guest

__all__ = ["converge", "observe"]

_OBSERVING = LOCK_WAIT + 300  # seconds: the wait for an earlier run, and the probes under emulation
_CHANGING = 7200  # seconds for one level; an installation under emulation takes about half of that

Facts = dict[str, str]


def observe(
    guest: Guest, steps: Sequence[Step], talk: Talk | None = None, *, deadline: Deadline | None = None
) -> Callable[[], Facts]:
    """Ask the guest for every step in one round trip. Return the function that waits for the facts, by subject.

    Nothing is changed on the guest. The returned function raises Unreachable, and CommandFailed if a probe fails, the
    answer is malformed or a limit is exceeded.
    """
    mark = new_mark()
    reporter = Reporter(guest.alias, (), mark, talk)
    reader = FactReader(guest.alias, steps, mark, reporter.take)
    running = guest.script(opening(mark) + probes(steps, mark), reader.take, limits(_OBSERVING, deadline))

    def answer() -> Facts:
        reporter.judge(running.join().exited)
        return reader.facts()

    return answer


def converge(
    guest: Guest,
    steps: Sequence[Step],
    talk: Talk,
    *,
    plan_only: bool = False,
    deadline: Deadline | None = None,
    asked: Callable[[], Facts] | None = None,
) -> Plan:
    """Bring the guest to the wanted state. Return the changes that were made, or with `plan_only` those that would be.

    The plan is shown first. `asked` is what observe() returned for these steps, if the guest was asked already.
    Raise Refused before anything is changed, CommandFailed if a step fails, VerificationFailed if one has no effect,
    and Unreachable if the connection breaks. The next run then continues where this one stopped.
    """
    check_names(steps)
    answer = asked or observe(guest, steps, talk, deadline=deadline)
    run = _Run(guest, steps, talk, deadline, secrets_of(steps))

    def facts() -> Facts:
        talk.screen.load()  # while the guest answers
        return answer()

    return reconcile(facts, run.plan, run.apply, talk, plan_only=plan_only)


@dataclass(frozen=True)
class _Run:
    """One run of steps on one guest."""

    guest: Guest
    steps: Sequence[Step]
    talk: Talk
    deadline: Deadline | None
    hidden: Sequence[str]

    def plan(self, facts: Facts) -> Plan:
        """Return the pending changes."""
        return plan(self.guest.alias, self.steps, facts)

    def apply(self, todo: Plan, facts: Facts) -> Applied[Facts]:
        """Make the changes level by level. Return those that were really made, and the facts after them."""
        done: list[Change] = []
        order = levels(with_dependents(self.steps, {change.subject for change in todo}))
        for position, level in enumerate(order):
            later = [step for rest in order[position + 1 :] for step in rest]
            work = self._due(level, facts)
            if work:
                done += [self._change(step, facts) for step in work]
                facts = facts | self._run(work, [*work, *later], facts)
                self._check(work, later, facts)
        return Applied(Plan(self.guest.alias, tuple(done)), facts)

    def _due(self, level: Sequence[Step], facts: Facts) -> list[Step]:
        return [step for step in level if self._script(step, facts) is not None]

    def _script(self, step: Step, facts: Facts) -> str | None:
        return read(self.guest.alias, step, step.apply, facts[step.subject])

    def _change(self, step: Step, facts: Facts) -> Change:
        return change(self.guest.alias, step, facts[step.subject], hidden=self.hidden)

    def _run(self, work: Sequence[Step], again: Sequence[Step], facts: Facts) -> Facts:
        """Run one level, report each step as it ends, and return the new facts of the steps in `again`."""
        mark, alias = new_mark(), self.guest.alias
        scripts = [self._script(step, facts) or ":" for step in work]
        script = "\n".join([opening(mark, changing=True), changes(scripts, mark), probes(again, mark)])
        with Reporter(alias, [step.subject for step in work], mark, self.talk, self.hidden) as reporter:
            reader = FactReader(alias, again, mark, reporter.take)
            running = self.guest.script(script, reader.take, limits(_CHANGING, self.deadline))
            try:
                code = running.join().exited
            except ConnectionLost as error:
                during = reporter.current or "the start of the work"
                raise ConnectionLost(f"{alias}: the connection broke during {during}", error.hint) from None
            reporter.judge(code)
        return reader.facts()

    def _check(self, work: Sequence[Step], later: Sequence[Step], facts: Facts) -> None:
        """Raise VerificationFailed if a step's change had no effect, and Refused if a later step refuses now."""
        left = difference(self.guest.alias, [*work, *later], facts, begun=True)
        for step in [step for step in left if step in work]:
            wanted, now = (
                mask(step.wanted, self.hidden),
                state(self.guest.alias, step, facts[step.subject], self.hidden),
            )
            message = f"{self.guest.alias}: {step.subject}: the change ran without an error but had no effect"
            raise VerificationFailed(f"{message}: wanted {wanted}, found {now}")
