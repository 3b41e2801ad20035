// Delivers the spool's events in order, one request at a time, and removes them after a 2xx.

import { delay, judge, retryAfter } from "./answers.ts";
import type { Verdict } from "./answers.ts";
import type { BatchForm, Config } from "./config.ts";
import type { Runtime } from "./runtime.ts";
import { tap } from "./tap.ts";

export interface SenderCounts {
  sent: number;
  /** Events that the endpoint rejected for good. */
  refused: number;
  /** Attempts that failed and were repeated. */
  retries: number;
}

/** The part of the spool that the sender needs. */
export interface Source {
  peek(limit: number): Promise<string[]>;
  ack(count: number): Promise<void>;
}

/** Who is told how the delivery goes. */
export interface Observer {
  delivered(events: string[]): void;
  trouble(reason: string): void;
}

const BATCH = 10; // events per request, as agentmon's other hooks send them
const READ = 200; // events per read of the spool in the form `single`
const SETTLE = 50; // events that are delivered one by one before the spool is told

const CONTENT: Record<BatchForm, string> = {
  single: "application/json",
  array: "application/json",
  ndjson: "application/x-ndjson",
};

interface Answer {
  verdict: Verdict;
  status: number;
  /** Milliseconds that the endpoint asks to wait. */
  asked: number | undefined;
  /** Why there was no answer, for the log. */
  cause?: string;
  /** Whether swarm's receiver was asked, which says nothing about the endpoint. */
  tapped: boolean;
}

export class Sender {
  readonly counts: SenderCounts = { sent: 0, refused: 0, retries: 0 };
  readonly #config: Config;
  readonly #source: Source;
  readonly #runtime: Runtime;
  readonly #observer: Observer | undefined;
  readonly #headers: Record<string, string>;
  /** Without a token: it is the endpoint's, not for swarm's receiver. */
  readonly #plain: Record<string, string>;
  #limit = BATCH;
  /** Events that are delivered, and that the spool does not know of yet. */
  #unsettled = 0;
  #attempt = 0;
  #stopped = false;
  #woken = false;
  /** Ends the wait for new events or for the next attempt. */
  #rouse: (() => void) | undefined;
  #backingOff = false;
  /** Called when the spool is empty, or when an attempt has failed. */
  #watchers: ((drained: boolean) => void)[] = [];
  #abort: AbortController | undefined;
  readonly #said = new Set<string>();
  #loop: Promise<void> | undefined;

  constructor(config: Config, source: Source, runtime: Runtime, observer?: Observer) {
    this.#config = config;
    this.#source = source;
    this.#runtime = runtime;
    this.#observer = observer;
    this.#plain = { "content-type": CONTENT[config.batch] };
    this.#headers = { ...config.headers, ...this.#plain };
  }

  /** Start to deliver. Does nothing without a URL. */
  start(): void {
    if (this.#config.url) this.#loop ??= this.#run();
  }

  /** Look for new events. Does not cut a back-off short. */
  wake(): void {
    this.#woken = true;
    if (!this.#backingOff) this.#rouse?.();
  }

  /**
   * Try to empty the spool within `ms`. Ends a back-off, and gives up at the first failure.
   * Resolves to whether everything was delivered.
   */
  drain(ms: number): Promise<boolean> {
    if (!this.#loop || this.#stopped) return Promise.resolve(false);
    return new Promise((resolve) => {
      const cancel = this.#runtime.after(ms, () => finish(false));
      const finish = (drained: boolean): void => {
        cancel();
        this.#watchers = this.#watchers.filter((watcher) => watcher !== finish);
        resolve(drained);
      };
      this.#watchers.push(finish);
      this.#woken = true;
      this.#rouse?.();
    });
  }

  /** Stop at once. A request that is under way is abandoned; its events stay in the spool. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#abort?.abort();
    this.#rouse?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        this.#woken = false;
        const single = this.#config.batch === "single";
        const events = await this.#source.peek(single ? READ : this.#limit);
        if (events.length > 0) await this.#deliver(events);
        else {
          this.#tell(true);
          if (!this.#woken) await this.#wait(undefined);
        }
      } catch {
        await this.#wait(1_000); // a bug must not become a busy loop
      }
    }
    this.#tell(false);
  }

  /** Deliver events in order. Returns when each is delivered or refused, or when the sender has been stopped. */
  async #deliver(events: string[]): Promise<void> {
    try {
      await this.#deliverAll(events);
    } finally {
      await this.#settle();
    }
  }

  async #deliverAll(events: string[]): Promise<void> {
    const size = this.#config.batch === "single" ? 1 : this.#limit;
    const parts: string[][] = [];
    for (let at = 0; at < events.length; at += size) parts.push(events.slice(at, at + size));
    while (parts.length > 0 && !this.#stopped) {
      const part = parts[0]!;
      const answer = await this.#post(part);
      const { verdict, status } = answer;
      if (this.#stopped && verdict !== "delivered") return;
      if (verdict === "delivered") await this.#delivered(parts.shift()!, answer.tapped);
      else if (verdict === "retry" || verdict === "misconfigured") await this.#again(answer);
      else if (part.length === 1) {
        parts.shift();
        await this.#refuse(status);
      } else {
        const middle = Math.ceil(part.length / 2);
        if (verdict === "too large") this.#limit = middle;
        parts.splice(0, 1, part.slice(0, middle), part.slice(middle));
      }
    }
  }

  async #delivered(part: string[], tapped: boolean): Promise<void> {
    this.counts.sent += part.length;
    this.#attempt = 0;
    this.#said.delete("down");
    this.#said.delete("misconfigured");
    if (part.length >= this.#limit && this.#limit < BATCH) this.#limit += 1;
    this.#unsettled += part.length;
    if (this.#unsettled >= SETTLE) await this.#settle();
    if (tapped) return;
    this.#observer?.trouble("");
    this.#observer?.delivered(part);
  }

  /** Let the spool forget what is delivered. */
  async #settle(): Promise<void> {
    const count = this.#unsettled;
    this.#unsettled = 0;
    if (count > 0) await this.#source.ack(count);
  }

  async #refuse(status: number): Promise<void> {
    await this.#settle();
    this.counts.refused += 1;
    this.#say(
      "refused",
      `the endpoint refused an event (HTTP ${status}); refused events are counted and not repeated`,
    );
    await this.#source.ack(1);
    this.#observer?.trouble(`HTTP ${status}`);
  }

  async #again(answer: Answer): Promise<void> {
    await this.#settle();
    this.counts.retries += 1;
    this.#attempt += 1;
    if (!answer.tapped) this.#complain(answer);
    this.#tell(false);
    this.#backingOff = true;
    await this.#wait(delay(answer.verdict, this.#attempt, this.#runtime.random(), answer.asked));
    this.#backingOff = false;
  }

  #complain({ verdict, status, cause }: Answer): void {
    this.#observer?.trouble(status ? `HTTP ${status}` : "no answer");
    if (verdict === "misconfigured") {
      this.#say(
        "misconfigured",
        `the endpoint answered HTTP ${status}: check AGENTMON_INGEST_URL and AGENTMON_TOKEN; events are kept`,
      );
    } else
      this.#say(
        "down",
        "the endpoint does not accept events " +
          `(${status ? `HTTP ${status}` : `no answer${cause ?? ""}`}); events are kept`,
      );
  }

  async #post(part: string[]): Promise<Answer> {
    // One for many requests: each leaves more garbage than the request itself.
    const abort = this.#abort?.signal.aborted === false ? this.#abort : (this.#abort = new AbortController());
    const cancel = this.#runtime.after(this.#config.timeout, () => abort.abort());
    const receiver = tap(this.#config.receiver, this.#runtime.now());
    const tapped = receiver !== undefined;
    try {
      const answer = await this.#runtime.post(receiver ?? this.#config.url!, {
        headers: tapped ? this.#plain : this.#headers,
        body: body(part, this.#config.batch),
        signal: abort.signal,
      });
      const asked = retryAfter(answer.retryAfter, this.#runtime.now());
      return { verdict: judge(answer.status), status: answer.status, asked, tapped };
    } catch (error) {
      return { verdict: "retry", status: 0, asked: undefined, cause: cause(error), tapped };
    } finally {
      cancel();
    }
  }

  /** Wait until `ms` have passed, or until someone rouses the sender. Without `ms`, for new events only. */
  #wait(ms: number | undefined): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = ms === undefined ? undefined : this.#runtime.after(ms, () => this.#rouse?.());
      this.#rouse = () => {
        this.#rouse = undefined;
        cancel?.();
        resolve();
      };
    });
  }

  #tell(drained: boolean): void {
    for (const watcher of [...this.#watchers]) watcher(drained);
  }

  /** Log a problem once, until it is over. */
  #say(topic: string, message: string): void {
    if (this.#said.has(topic)) return;
    this.#said.add(topic);
    this.#runtime.warn(message);
  }
}

/** Return the code of a failed connection, such as ": ECONNREFUSED" or ": SELF_SIGNED_CERT_IN_CHAIN". */
function cause(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" && /^[A-Z0-9_]{1,64}$/.test(code) ? `: ${code}` : "";
}

function body(part: string[], form: BatchForm): string {
  if (form === "single") return part[0]!;
  return form === "array" ? `[${part.join(",")}]` : `${part.join("\n")}\n`;
}
