// An open run: what lib/trace.ts knows about a message or a task until the agent is done with it.

import type { Half } from "./step.ts";
import { Recent } from "./recent.ts";

const COMPACTION = "compaction"; // the name, and the key, of its span
export const SPANS = 1_000; // open at a time in one run

export interface Span {
  id: string;
  name: string;
  start: number;
}

export interface Run {
  id: string;
  trace: string;
  parent: string | undefined;
  session: string;
  start: number;
  touched: number;
  /** The run id of OpenClaw, once it is known. */
  alias: string | undefined;
  /** Messages that this half has reported; the other half reports the same ones. */
  from: Set<Half>;
  spans: Map<string, Span>;
  done: Recent<true>;
  usage: Record<string, number> | undefined;
  outcome: string | undefined;
  attributes: Record<string, unknown>;
  /** When to end the run, if nothing else happens. */
  due: number | undefined;
  /** Whether a compaction is all that it has done so far. Unknown until its first span begins. */
  compaction: boolean | undefined;
}

/** Return a run without spans. */
export function begun(id: string, trace: string, session: string, now: number, parent?: string): Run {
  return {
    id,
    trace,
    parent,
    session,
    start: now,
    touched: now,
    alias: undefined,
    from: new Set(),
    spans: new Map(),
    done: new Recent(SPANS),
    usage: undefined,
    outcome: undefined,
    attributes: {},
    due: undefined,
    compaction: undefined,
  };
}

/** Note that a span of this name and key begins. A turn may begin with a compaction, and then goes on. */
export function note(run: Run, name: string): void {
  run.compaction ??= name === COMPACTION;
  if (!run.compaction || name === COMPACTION || run.spans.has(COMPACTION)) return;
  run.compaction = false;
  run.due = undefined;
}

/** Whether nothing is under way. A compaction that fails has no end. */
export function idle(run: Run): boolean {
  return run.spans.size === 0 || (!!run.compaction && run.spans.size === 1 && run.spans.has(COMPACTION));
}
