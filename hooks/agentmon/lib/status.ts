// What the hook says about itself, in status.json beside the spool. `inv verify` and `inv status` read it.
//
// It holds names, counts and times. Everything in it is also known to the endpoint.

import { closeSync, constants, openSync, readSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Entry } from "./envelope.ts";
import type { Runtime } from "./runtime.ts";
import type { Half } from "./trace.ts";

/** When the last event of a family happened, and when the endpoint last accepted one. Milliseconds since 1970. */
export interface Family {
  happened: number;
  delivered: number;
}

const DELAY = 1_000; // ms from a change to its write, so that a burst costs one write
const SIZE = 64 * 1024; // bytes of an earlier file that are read
const MOST = 32; // families; the mapping table has fewer

// Where envelope.ts puts them. To parse each event would cost more memory than to send it.
const TYPE = /^\{"schema":\{[^{}]*\},"event":\{"id":"[^"]*","type":"([a-z._]+)"/;
const NAME = /"payload":\{"boot":"[^"]*","name":"([a-z._]+)"/;

// The names of rows in lib/mapping.ts that are not their family's name.
const FAMILIES: Readonly<Record<string, string>> = {
  chat: "model",
  usage: "model",
  execute_tool: "tool",
  invoke_agent: "subagent",
};

/** Return the family of an event by its type and the name in its payload: session, run, model, tool, gateway … */
export function family(type: string, name: unknown): string {
  if (type.startsWith("session.")) return "session";
  if (type.startsWith("run.") || type === "error") return "run";
  const row = String(name);
  return FAMILIES[row] ?? row.split(".")[0]!;
}

/** Return the family of an event that is JSON, or undefined for what an earlier version may have spooled. */
function familyOf(text: string): string | undefined {
  const type = TYPE.exec(text)?.[1];
  if (type) return family(type, NAME.exec(text)?.[1]);
  try {
    const { event, payload } = JSON.parse(text) as { event: { type: string }; payload: { name?: string } };
    return family(event.type, payload.name);
  } catch {
    return undefined;
  }
}

export class Status {
  readonly #path: string;
  readonly #runtime: Runtime;
  readonly #stats: () => Record<string, number>;
  readonly #started: number;
  readonly #halves: Record<Half, number> = { hook: 0, plugin: 0 };
  readonly #families: Map<string, Family>;
  #trouble = "";
  #timer: (() => void) | undefined;

  /** `stats` returns the counts of the emitter. Nothing here throws. */
  constructor(folder: string, runtime: Runtime, stats: () => Record<string, number>) {
    this.#path = join(folder, "status.json");
    this.#runtime = runtime;
    this.#stats = stats;
    this.#started = runtime.now();
    this.#families = earlier(this.#path);
  }

  /** A half was called by OpenClaw, so it is loaded. */
  called(half: Half): void {
    if (this.#halves[half] > 0) return;
    this.#halves[half] = this.#runtime.now();
    this.#schedule();
  }

  /** An event happened. */
  happened(entry: Entry): void {
    this.#note(family(entry.type, entry.payload.name), "happened", entry.at);
  }

  /** The endpoint accepted these events. */
  delivered(events: string[]): void {
    const now = this.#runtime.now();
    for (const text of events) {
      const found = familyOf(text);
      if (found) this.#note(found, "delivered", now);
    }
  }

  /** Why the endpoint accepts nothing at present; empty if it does. */
  trouble(reason: string): void {
    if (reason === this.#trouble) return;
    this.#trouble = reason;
    this.#schedule();
  }

  /** Write the file now, and again only after the next change. */
  write(): void {
    this.#timer?.();
    this.#timer = undefined;
    const text = JSON.stringify({
      format: 1,
      pid: process.pid,
      started: this.#started,
      written: this.#runtime.now(),
      halves: this.#halves,
      families: Object.fromEntries(this.#families),
      trouble: this.#trouble,
      ...this.#stats(),
    });
    const temporary = `${this.#path}.${process.pid}`;
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
      const file = openSync(temporary, flags, 0o600);
      try {
        writeSync(file, `${text}\n`);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, this.#path);
    } catch {
      remove(temporary); // a full disk, or a folder that cannot be used: the spool has said so already
    }
  }

  /** Write nothing more. */
  stop(): void {
    this.#timer?.();
    this.#timer = () => undefined; // as if a write were due, so that none is scheduled
  }

  #note(name: string, what: keyof Family, at: number): void {
    let found = this.#families.get(name);
    if (!found) {
      if (this.#families.size >= MOST) return;
      found = { happened: 0, delivered: 0 };
      this.#families.set(name, found);
    }
    found[what] = at;
    this.#schedule();
  }

  #schedule(): void {
    this.#timer ??= this.#runtime.after(DELAY, () => {
      this.#timer = undefined;
      this.write();
    });
  }
}

/** The families of an earlier process. Empty if the file is missing or damaged. */
function earlier(path: string): Map<string, Family> {
  const found = new Map<string, Family>();
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const buffer = Buffer.alloc(SIZE);
      const text = buffer.toString("utf8", 0, readSync(file, buffer, 0, SIZE, 0));
      const { families } = JSON.parse(text) as { families?: Record<string, Partial<Family>> };
      for (const [name, { happened, delivered }] of Object.entries(families ?? {}).slice(0, MOST))
        found.set(name, { happened: Number(happened) || 0, delivered: Number(delivered) || 0 });
    } finally {
      closeSync(file);
    }
  } catch {
    found.clear();
  }
  return found;
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was never made.
  }
}
