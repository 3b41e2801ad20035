// Correlates events: which run a span belongs to, when a run is over, and what was seen before.
//
// OpenClaw sends no common id. A message has a session key, a model call has a session key and a run id, and a reply
// has a session key only. `agent_end` comes before `llm_output`, and neither is certain to come.

import type { Entry, EventType } from "./envelope.ts";
import { uuid7 } from "./envelope.ts";
import { Cleaner, pick } from "./fields.ts";
import type { Input } from "./fields.ts";
import { HOOK_EVENTS, IDS, PLUGIN_EVENTS } from "./mapping.ts";
import { Recent } from "./recent.ts";
import { begun, idle, note, SPANS } from "./run.ts";
import type { Run, Span } from "./run.ts";
import type { Runtime } from "./runtime.ts";
import { Step, usage } from "./step.ts";
import type { Half } from "./step.ts";

export type { Half } from "./step.ts";

const GRACE = 1_000; // ms; llm_output follows agent_end within a few
const SAME = 2_000; // ms within which both halves report the same message or session
const QUIET = 120_000; // ms without an event and without an open span, after which a run is over
const SILENT = 1_800_000; // ms without an event, after which a run is over in any case
const RUNS = 500;

export class Tracer {
  readonly #runtime: Runtime;
  readonly #cleaner: Cleaner;
  readonly #content: boolean;
  readonly #plain: boolean;
  /** The open runs by their id, oldest first. */
  readonly #runs = new Map<string, Run>();
  /** Runs of OpenClaw that are over, so that late events do not start them again. */
  readonly #over = new Recent<true>(RUNS);
  readonly #seen = new Recent<number>(2_000);
  /** The trace and the span that started a subagent, by the subagent's session. */
  readonly #origins = new Recent<{ trace: string; span: string }>(RUNS);

  constructor(runtime: Runtime, cleaner: Cleaner, options: { content: boolean; plainSessions: boolean }) {
    this.#runtime = runtime;
    this.#cleaner = cleaner;
    this.#content = options.content;
    this.#plain = options.plainSessions;
  }

  get open(): number {
    return this.#runs.size;
  }

  /** Return what an event of OpenClaw becomes: nothing, or one or more entries. */
  handle(half: Half, name: string, input: Input): Entry[] {
    const table = half === "hook" ? HOOK_EVENTS : PLUGIN_EVENTS;
    const row = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!row) return [];
    const out: Entry[] = [];
    const step = new Step(row, input, half, out, this.#cleaner.attributes(row, input, this.#content));
    step.session = this.#session(pick(input, row.session ?? "event.sessionKey|ctx.sessionKey"));
    const alias = pick(input, row.run ?? "event.runId|ctx.runId");
    step.alias = typeof alias === "string" ? alias : undefined;
    if (row.act === "session.start" || row.act === "session.end") this.#boundary(step, row.act);
    else if (row.act === "run.start") this.#received(step);
    else if (row.act === "run.replied") this.#replied(step);
    else if (row.act === "run.usage") this.#used(step);
    else if (row.act === "run.done") this.#done(step);
    else if (row.act === "span.start") this.#begin(step);
    else if (row.act === "span.end") this.#end(step);
    else
      this.#add(out, "metric.snapshot", undefined, row.name, {
        session: step.session,
        attributes: step.attributes,
      });
    return out;
  }

  /** Return the ends of the runs that are due. Call it about once a second. */
  sweep(): Entry[] {
    const now = this.#runtime.now();
    const out: Entry[] = [];
    for (const run of [...this.#runs.values()]) {
      if (now < run.touched) this.#touch(run); // the clock was set back
      const quiet = now - run.touched;
      if (run.due !== undefined && now >= run.due && (!run.compaction || idle(run)))
        this.#finish(out, run, run.outcome ?? "ok");
      else if (quiet >= SILENT || (quiet >= QUIET && idle(run))) this.#finish(out, run, "unknown");
    }
    return out;
  }

  /** Return the ends of all open runs. */
  close(): Entry[] {
    const out: Entry[] = [];
    for (const run of [...this.#runs.values()]) {
      this.#finish(out, run, run.due === undefined ? "unknown" : (run.outcome ?? "ok"));
    }
    return out;
  }

  #session(key: unknown): string | undefined {
    if (typeof key !== "string" || key === "") return undefined;
    return this.#plain ? key.slice(0, 256) : this.#cleaner.hash(key);
  }

  /** A session started or ended. Both halves report it, within moments. */
  #boundary(step: Step, type: "session.start" | "session.end"): void {
    if (this.#repeated(`${type}:${step.session}`)) return;
    if (type === "session.end") {
      for (const run of this.#of(step.session))
        if (run.spans.size === 0 && run.alias) this.#finish(step.out, run, run.outcome ?? "unknown");
    }
    this.#add(step.out, type, undefined, step.row.name, {
      session: step.session,
      attributes: step.attributes,
    });
  }

  #repeated(key: string): boolean {
    const now = this.#runtime.now();
    const last = this.#seen.get(key);
    this.#seen.set(key, now);
    return last !== undefined && Math.abs(now - last) < SAME; // a clock may be set back
  }

  #received(step: Step): void {
    const message = step.attributes["openclaw.message.hash"];
    if (typeof message === "string" && this.#repeated(`in:${step.session}:${message}`)) return;
    const now = this.#runtime.now();
    const runs = this.#of(step.session);
    const last = runs.at(-1);
    if (last && now - last.start < SAME && last.from.size > 0 && !last.from.has(step.half)) {
      last.from.add(step.half);
      return;
    }
    // The earlier message got no reply that OpenClaw reported, as in webchat.
    for (const run of runs)
      if (run.alias && run.spans.size === 0) this.#finish(step.out, run, run.outcome ?? "unknown");
    this.#start(step, step.attributes).from.add(step.half);
  }

  #replied(step: Step): void {
    const message = step.attributes["openclaw.message.hash"];
    if (typeof message === "string" && this.#repeated(`out:${step.session}:${message}`)) return;
    const run = this.#find(step) ?? this.#of(step.session)[0];
    if (!run) return;
    this.#touch(run);
    Object.assign(run.attributes, step.attributes);
    if (step.failed) run.outcome = "error";
    if (!run.alias) this.#finish(step.out, run, run.outcome ?? "ok");
    else if (run.compaction) run.due = this.#runtime.now() + GRACE;
  }

  #used(step: Step): void {
    const run = this.#find(step);
    if (!run || !step.row.usage) return;
    this.#touch(run);
    const counts = this.#cleaner.fields(step.row.usage, step.input) as Record<string, number>;
    Object.assign(run.attributes, step.attributes);
    if (Object.keys(counts).length > 0) {
      run.usage ??= {};
      for (const [name, count] of Object.entries(counts)) run.usage[name] = (run.usage[name] ?? 0) + count;
      const attributes = { ...step.attributes, ...counts };
      this.#add(step.out, "metric.snapshot", run, step.row.name, { usage: usage(counts), attributes });
    }
    if (run.due !== undefined) this.#finish(step.out, run, run.outcome ?? "ok");
  }

  #done(step: Step): void {
    const run = this.#find(step) ?? (step.alias === undefined ? this.#of(step.session)[0] : undefined);
    if (!run) return;
    this.#touch(run);
    Object.assign(run.attributes, step.attributes);
    // agent_end.success is true even if the model answered with an error, so it only counts when it is false.
    if (step.failed || pick(step.input, "event.success") === false) run.outcome = "error";
    if (run.usage) this.#finish(step.out, run, run.outcome ?? "ok");
    else run.due = this.#runtime.now() + GRACE;
  }

  #begin(step: Step): void {
    const run = this.#find(step) ?? this.#bind(step);
    const key = step.key();
    if (run.spans.has(key) || (step.row.key?.length && run.done.get(key))) return;
    if (run.spans.size >= SPANS) this.#unknown(step.out, run, run.spans.keys().next().value as string);
    this.#touch(run);
    this.#span(step, run, key, this.#runtime.now());
  }

  #span(step: Step, run: Run, key: string, start: number): Span {
    note(run, step.row.name);
    const span: Span = { id: this.#id(8), name: step.row.name, start };
    run.spans.set(key, span);
    const child =
      step.row.name === "invoke_agent" ? this.#session(pick(step.input, step.row.key?.[0] ?? "")) : undefined;
    if (child) this.#origins.set(child, { trace: run.trace, span: span.id });
    this.#add(step.out, "span.start", run, span.name, {
      span: span.id,
      at: start,
      attributes: step.attributes,
    });
    return span;
  }

  #end(step: Step): void {
    const key = step.key();
    const known = this.#find(step) ?? this.#holder(step.session, key);
    if (!known && step.row.name === "invoke_agent") return this.#late(step);
    if (!known && (step.alias === undefined || this.#over.get(step.alias))) return;
    const run = known ?? this.#bind(step);
    let span = run.spans.get(key);
    if (!span && (run.done.get(key) || step.row.key?.length === 0)) return;
    const now = this.#runtime.now();
    const took = pick(step.input, "event.durationMs");
    span ??= this.#span(step, run, key, typeof took === "number" ? Math.max(now - took, 0) : now);
    run.spans.delete(key);
    run.done.set(key, true);
    this.#touch(run);
    const status = step.failed ? "error" : step.status();
    if (step.row.name === "chat") run.outcome = status === "error" ? "error" : "ok";
    const took_ms = Math.max(now - span.start, 0); // the clock may have been set back
    const facts = { span: span.id, status, duration_ms: took_ms, attributes: step.attributes };
    this.#add(step.out, "span.end", run, span.name, facts);
    if (status === "error")
      this.#add(step.out, "error", run, span.name, { span: span.id, attributes: step.attributes });
    // A message may go on after its compaction; its reply ends it.
    if (run.compaction && run.from.size === 0 && run.spans.size === 0) run.due = now + GRACE;
  }

  /** A subagent ended after the run that started it, which closed its span. How it ended is not lost with that. */
  #late(step: Step): void {
    const child = this.#session(pick(step.input, step.row.key?.[0] ?? ""));
    const origin = child && this.#origins.get(child);
    if (!origin || this.#repeated(`late:${child}`)) return;
    const { session, attributes } = step;
    const ids = { [IDS.trace]: origin.trace, [IDS.parent]: origin.span };
    const status = step.failed ? "error" : step.status();
    this.#add(step.out, "metric.snapshot", undefined, "invoke_agent", { session, ...ids, status, attributes });
  }

  #of(session: string | undefined): Run[] {
    return [...this.#runs.values()].filter((run) => run.session === (session ?? ""));
  }

  #holder(session: string | undefined, key: string): Run | undefined {
    if (session) return this.#of(session).find((run) => run.spans.has(key));
    return [...this.#runs.values()].find((run) => run.spans.has(key));
  }

  /** Return the open run that an event belongs to by its run id or, without one, by its session. */
  #find(step: Step): Run | undefined {
    if (step.alias === undefined)
      return step.row.act === "span.start" ? this.#of(step.session).at(-1) : undefined;
    const bound = [...this.#runs.values()].find((run) => run.alias === step.alias);
    if (bound || step.row.act !== "run.done") return bound;
    return this.#over.get(step.alias) ? undefined : this.#bind(step);
  }

  /** Give the session's oldest run without a run id that id, or start a run. */
  #bind(step: Step): Run {
    const waiting = this.#of(step.session).find((run) => run.alias === undefined);
    const run = waiting ?? this.#start(step, {});
    run.alias = step.alias;
    return run;
  }

  #start(step: Step, attributes: Record<string, unknown>): Run {
    if (this.#runs.size >= RUNS) this.#finish(step.out, this.#runs.values().next().value as Run, "unknown");
    const now = this.#runtime.now();
    const session = step.session ?? "";
    const origin = this.#origins.get(session);
    const trace = origin?.trace ?? this.#id(16);
    const run = begun(uuid7(this.#runtime), trace, session, now, origin?.span);
    this.#runs.set(run.id, run);
    this.#add(step.out, "run.start", run, "run", { attributes });
    return run;
  }

  #touch(run: Run): void {
    run.touched = this.#runtime.now();
    if (run.due !== undefined) run.due = run.touched + GRACE;
  }

  #unknown(out: Entry[], run: Run, key: string): void {
    const span = run.spans.get(key)!;
    run.spans.delete(key);
    run.done.set(key, true);
    this.#add(out, "span.end", run, span.name, { span: span.id, status: "unknown", attributes: {} });
  }

  #finish(out: Entry[], run: Run, status: string): void {
    for (const key of [...run.spans.keys()]) this.#unknown(out, run, key);
    this.#runs.delete(run.id);
    if (run.alias) this.#over.set(run.alias, true);
    const facts = {
      status,
      duration_ms: Math.max(this.#runtime.now() - run.start, 0),
      attributes: { ...run.attributes, ...run.usage },
    };
    this.#add(out, "run.end", run, "run", run.usage ? { ...facts, usage: usage(run.usage) } : facts);
  }

  #id(bytes: number): string {
    return Buffer.from(this.#runtime.bytes(bytes)).toString("hex");
  }

  #add(
    out: Entry[],
    type: EventType,
    run: Run | undefined,
    name: string,
    facts: Record<string, unknown>,
  ): void {
    const { span, at, session, attributes, ...rest } = facts;
    const ids: Record<string, unknown> = { [IDS.session]: run ? run.session || undefined : session };
    if (run) {
      Object.assign(ids, { [IDS.run]: run.id, [IDS.trace]: run.trace });
      if (span) ids[IDS.span] = span;
      else if (run.parent) ids[IDS.parent] = run.parent;
    }
    out.push({
      type,
      at: typeof at === "number" ? at : this.#runtime.now(),
      payload: { ...ids, name, ...rest, attributes },
    });
  }
}
