// What the rest needs of the outside world: a clock, timers, randomness and HTTP. Tests replace them.

import { randomFillSync } from "node:crypto";
import { post } from "./post.ts";
import type { Posting } from "./post.ts";
import type { Reply } from "./reply.ts";

export interface Runtime {
  /** Milliseconds since 1970. */
  now(): number;
  /** A number from 0 up to, not including, 1. */
  random(): number;
  /** `count` random bytes. */
  bytes(count: number): Uint8Array;
  /** Call `action` once after `ms` milliseconds. Returns a function that cancels the call. */
  after(ms: number, action: () => void): () => void;
  post(url: string, posting: Posting): Promise<Reply>;
  /** Write one line to the gateway's log. */
  warn(message: string): void;
}

/** The runtime of the gateway. Its timers do not keep a command of OpenClaw from ending. */
export const real: Runtime = {
  now: Date.now,
  random: Math.random,
  bytes: (count) => randomFillSync(new Uint8Array(count)),
  after(ms, action) {
    const timer = setTimeout(action, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
  post,
  warn: (message) => console.warn(`[agentmon] ${message}`),
};

/** Resolve after `ms` milliseconds of the runtime's clock. */
export function sleep(runtime: Runtime, ms: number): Promise<void> {
  return new Promise((resolve) => void runtime.after(ms, resolve));
}
