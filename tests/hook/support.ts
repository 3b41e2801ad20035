// A fake clock, a real HTTP server, and folders for the tests of the hook.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { configure } from "../../hooks/agentmon/lib/config.ts";
import type { Config } from "../../hooks/agentmon/lib/config.ts";
import { post } from "../../hooks/agentmon/lib/post.ts";
import type { Posting } from "../../hooks/agentmon/lib/post.ts";
import type { Reply } from "../../hooks/agentmon/lib/reply.ts";
import { real } from "../../hooks/agentmon/lib/runtime.ts";
import type { Runtime } from "../../hooks/agentmon/lib/runtime.ts";

/** A runtime whose clock stands still until `pass` moves it. */
export class Clock implements Runtime {
  time = 1_800_000_000_000;
  warnings: string[] = [];
  #timers: { at: number; action: () => void }[] = [];
  #count = 0;

  now(): number {
    return this.time;
  }

  random(): number {
    return 0;
  }

  bytes(count: number): Uint8Array {
    const raw = Buffer.alloc(count);
    raw.writeUInt32BE(++this.#count, count - 4);
    return raw;
  }

  after(ms: number, action: () => void): () => void {
    const timer = { at: this.time + ms, action };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer));
  }

  post(url: string, posting: Posting): Promise<Reply> {
    return post(url, posting);
  }

  warn(message: string): void {
    this.warnings.push(message);
  }

  /** Milliseconds until the next timer. */
  get next(): number | undefined {
    return this.#timers.length ? Math.min(...this.#timers.map(({ at }) => at)) - this.time : undefined;
  }

  /** Move the clock, and run what is due. */
  pass(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.time = Math.max(this.time, due.at);
      due.action();
    }
    this.time = end;
  }
}

/** The real runtime, without its log lines. */
export function quiet(warnings: string[] = []): Runtime {
  return { ...real, warn: (message) => void warnings.push(message) };
}

export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "agentmon-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export function settings(url: string, folderPath: string, more: Partial<Config> = {}): Config {
  return {
    ...configure({ AGENTMON_INGEST_URL: url, AGENTMON_HOST: "h" }),
    folder: folderPath,
    timeout: 2_000,
    ...more,
  };
}

export type Answer = (
  bodies: string,
  request: IncomingMessage,
  response: ServerResponse,
) => number | undefined;

/** An endpoint on loopback. `answer` returns a status, or undefined after it has dealt with the response itself. */
export class Endpoint {
  url = "";
  /** The bodies that were answered with a 2xx, in order. */
  accepted: string[] = [];
  requests: { body: string; headers: IncomingMessage["headers"]; path: string }[] = [];
  answer: Answer;

  constructor(answer: Answer = () => 202) {
    this.answer = answer;
  }

  async start(t: TestContext): Promise<this> {
    const server = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => {
        this.requests.push({ body, headers: request.headers, path: request.url ?? "" });
        const status = this.answer(body, request, response);
        if (status === undefined) return;
        if (status < 300) this.accepted.push(body);
        response.writeHead(status).end("{}");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return this;
  }

  /** The events of all accepted bodies, whatever the batch form. */
  get events(): any[] {
    return this.accepted.flatMap((body) =>
      body.startsWith("[")
        ? JSON.parse(body)
        : body
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line)),
    );
  }
}

/** Wait until a condition holds. The limit only ends a test that has failed. */
export async function until(
  condition: () => boolean,
  what: string,
  step: () => void = () => undefined,
): Promise<void> {
  for (const start = Date.now(); !condition();) {
    if (Date.now() - start > 20_000) throw new Error(`gave up waiting: ${what}`);
    step();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
