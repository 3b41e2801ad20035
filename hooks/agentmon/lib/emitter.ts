// The one emitter of a process: both halves hand their events to it.

import { randomBytes } from "node:crypto";
import { constants, closeSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { configure, decoded } from "./config.ts";
import type { Config } from "./config.ts";
import { Sealer } from "./envelope.ts";
import type { Entry } from "./envelope.ts";
import { Cleaner } from "./fields.ts";
import type { Input } from "./fields.ts";
import { Sender } from "./sender.ts";
import { real } from "./runtime.ts";
import type { Runtime } from "./runtime.ts";
import { Spool } from "./spool.ts";
import { Status } from "./status.ts";
import { tap } from "./tap.ts";
import { Tracer } from "./trace.ts";
import type { Half } from "./trace.ts";

const SWEEP = 1_000; // ms
const SNAPSHOT = 60_000; // ms between two metrics of the hook itself
const PROOF = 1_000; // ms between two looks whether swarm's proof is over
/** Milliseconds that a shutdown may take: OpenClaw gives gateway:shutdown 5 s. */
export const FLUSH = 4_000;
const SHORTEST_SECRET = 6; // characters; shorter values would redact ordinary words
const PASSWORD = /^[a-z][a-z0-9+.-]*:\/\/[^:/?#]*:([^/?#]*)@/i; // in a URL

export class Emitter {
  readonly #config: Config;
  readonly #runtime: Runtime;
  readonly #tracer: Tracer;
  readonly #sealer: Sealer;
  readonly #spool: Spool;
  readonly #sender: Sender;
  readonly #status: Status;
  readonly #spill: () => void;
  #failures = 0;
  #stopped = false;
  #sweep: (() => void) | undefined;
  #snapshot: (() => void) | undefined;
  #proof: (() => void) | undefined;

  /** `secrets` never leave the process, wherever they occur. The spool is opened after `before`. */
  constructor(config: Config, runtime: Runtime, secrets: readonly string[] = [], before?: Promise<void>) {
    this.#config = config;
    this.#runtime = runtime;
    this.#tracer = new Tracer(runtime, new Cleaner(salt(config.folder), secrets), config);
    this.#sealer = new Sealer(config, runtime);
    this.#spool = new Spool(config.folder, config.spoolBytes, runtime, () => this.#sender?.wake(), before);
    this.#status = new Status(config.folder, runtime, () => this.stats());
    this.#sender = new Sender(config, this.#spool, runtime, this.#status);
    this.#spill = () => this.#spool.spill();
    process.on("exit", this.#spill);
    this.#sender.start();
    this.#everyMinute();
    this.#untilProved();
  }

  /** Take an event of OpenClaw. Returns at once and never throws. */
  accept(half: Half, name: string, input: Input): void {
    if (this.#stopped) return;
    try {
      this.#status.called(half);
      this.#push(this.#tracer.handle(half, name, input));
      if (this.#tracer.open > 0) this.#everySecond();
    } catch {
      this.#failures += 1;
    }
  }

  /** End all runs, write everything, and try to deliver it within `ms`. Never rejects. */
  async flush(ms: number = FLUSH): Promise<void> {
    try {
      this.#push(this.#tracer.close());
      this.#push([this.#measure()]);
      await this.#spool.flush();
      await this.#sender.drain(ms);
      this.#status.write();
    } catch {
      this.#failures += 1;
    }
  }

  /** Stop for good. What is not delivered stays in the spool. Never rejects. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#sweep?.();
    this.#snapshot?.();
    this.#proof?.();
    await this.#sender.stop().catch(() => undefined);
    await this.#spool.close().catch(() => undefined);
    process.off("exit", this.#spill);
    this.#status.stop();
  }

  /** How the delivery stands. */
  stats(): Record<string, number> {
    const { dropped, corrupt, torn, errors } = this.#spool.counts;
    const { sent, refused, retries } = this.#sender.counts;
    return {
      depth: this.#spool.depth,
      bytes: this.#spool.bytes,
      sent,
      dropped,
      refused,
      retries,
      corrupt,
      torn,
      errors,
      failures: this.#failures,
    };
  }

  #push(entries: Entry[]): void {
    for (const entry of entries) {
      this.#spool.append(this.#sealer.seal(entry));
      this.#status.happened(entry);
    }
  }

  #measure(): Entry {
    const counts = Object.entries(this.stats()).map(([name, count]) => [`openclaw.agentmon.${name}`, count]);
    return {
      type: "metric.snapshot",
      at: this.#runtime.now(),
      payload: { name: "agentmon", attributes: Object.fromEntries(counts) },
    };
  }

  #everySecond(): void {
    this.#sweep ??= this.#runtime.after(SWEEP, () => {
      this.#sweep = undefined;
      try {
        this.#push(this.#tracer.sweep());
      } catch {
        this.#failures += 1;
      }
      if (this.#tracer.open > 0 && !this.#stopped) this.#everySecond();
    });
  }

  #everyMinute(): void {
    this.#snapshot = this.#runtime.after(SNAPSHOT, () => {
      this.#push([this.#measure()]);
      void this.#spool.adopt();
      if (!this.#stopped) this.#everyMinute();
    });
  }

  /** While swarm proves the hook, wait for the end, and deliver then what swarm has put back into the spool. */
  #untilProved(): void {
    if (!tap(this.#config.receiver, this.#runtime.now())) return;
    this.#proof = this.#runtime.after(PROOF, () => {
      if (tap(this.#config.receiver, this.#runtime.now())) return this.#untilProved();
      void this.#spool.adopt().then(() => this.#sender.drain(FLUSH));
    });
  }
}

/** Return the random salt of this installation's hashes, kept beside the spool; a new one if it cannot be kept. */
function salt(folder: string): Uint8Array {
  const path = join(folder, "salt");
  const value = randomBytes(16);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      const kept = Buffer.alloc(16);
      if (readSync(file, kept, 0, 16, 0) === 16) return kept;
      writeSync(file, value, 0, 16, 0);
    } finally {
      closeSync(file);
    }
  } catch {
    // Sessions are then hashed differently after the next start.
  }
  return value;
}

interface Shared {
  version: number;
  emitter: Emitter | undefined;
}

const VERSION = 6; // raise it when the emitter changes: a reload then replaces the old one
const KEY = Symbol.for("swarm.agentmon");

/** Events that wait for the emitter to be made, in the turn after the first of them. */
const early: [Half, string, Input][] = [];
const MOST_EARLY = 100; // a burst beyond that waits

/** Hand an event to the process's emitter. Never throws. The first one does not wait until it is made, for some ms. */
export function accept(half: Half, name: string, input: Input): void {
  const found = shared();
  if (found) found.emitter?.accept(half, name, input);
  else {
    early.push([half, name, input]);
    if (early.length === 1) setImmediate(emitter);
    else if (early.length > MOST_EARLY) emitter();
  }
}

/** Return the process's emitter, which is made at first use. Undefined without AGENTMON_INGEST_URL. Never throws. */
export function emitter(): Emitter | undefined {
  const found = (shared() ?? make()).emitter;
  for (const [half, name, input] of early.splice(0)) found?.accept(half, name, input);
  return found;
}

/** A reload may leave the hook or the plugin at an older version. That must not replace the newer one's emitter. */
function shared(): Shared | undefined {
  const found = (globalThis as { [KEY]?: Shared })[KEY];
  return found && found.version >= VERSION ? found : undefined;
}

function make(): Shared {
  const place = globalThis as { [KEY]?: Shared };
  const before = place[KEY]?.emitter?.stop();
  const made: Shared = { version: VERSION, emitter: undefined };
  place[KEY] = made;
  try {
    const problems: string[] = [];
    const config = configure(process.env, problems);
    for (const problem of problems) real.warn(problem);
    if (config.url) made.emitter = new Emitter(config, real, secrets(process.env), before);
  } catch (error) {
    real.warn(`cannot start: ${(error as Error).message}`);
  }
  return made;
}

/** Return the values of environment variables that hold secrets by their name, and the passwords in URLs. */
function secrets(env: Record<string, string | undefined>): string[] {
  return Object.entries(env)
    .flatMap(([name, value = ""]) => {
      if (/TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL/i.test(name)) return [value];
      const password = PASSWORD.exec(value)?.[1] ?? "";
      return [password, decoded(password)];
    })
    .filter((value) => value.length >= SHORTEST_SECRET);
}
