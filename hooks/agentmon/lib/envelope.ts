// agentmon's envelope around one event.

import type { Config } from "./config.ts";
import type { Runtime } from "./runtime.ts";

/** The only types that agentmon accepts. */
export const TYPES = [
  "session.start",
  "session.end",
  "run.start",
  "run.end",
  "span.start",
  "span.end",
  "error",
  "metric.snapshot",
] as const;
export type EventType = (typeof TYPES)[number];

/** An event before it gets an envelope. `at` is in milliseconds since 1970. */
export interface Entry {
  type: EventType;
  at: number;
  payload: Record<string, unknown>;
}

/** Return a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits. */
export function uuid7(runtime: Runtime): string {
  const raw = Buffer.from(runtime.bytes(16));
  raw.writeUIntBE(Math.max(0, Math.floor(runtime.now())), 0, 6);
  raw[6] = (raw[6]! & 0x0f) | 0x70;
  raw[8] = (raw[8]! & 0x3f) | 0x80;
  const hex = raw.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Seals entries. `seq` counts from 1 per `boot`, so that a lost event shows as a gap. */
export class Sealer {
  readonly boot: string;
  readonly #runtime: Runtime;
  readonly #source: Record<string, string>;
  #seq = 0;

  constructor(config: Config, runtime: Runtime) {
    this.#runtime = runtime;
    this.boot = uuid7(runtime);
    this.#source = { framework: config.framework, client_id: config.client, host: config.host };
  }

  /** Return the event as one line of JSON. */
  seal(entry: Entry): string {
    return JSON.stringify({
      schema: { name: "agentmon.event", version: 1 },
      event: {
        id: uuid7(this.#runtime),
        type: entry.type,
        ts: new Date(entry.at).toISOString(),
        seq: ++this.#seq,
        source: this.#source,
      },
      payload: { boot: this.boot, ...entry.payload },
    });
  }
}
