// Gives a hook's handler events as the gateway does, for bench/hook.py: `_events.ts HANDLER MEASUREMENT COUNT`.
// Prints a measurement as JSON.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { emitter } from "../hooks/agentmon/lib/emitter.ts";
import { encode } from "../hooks/agentmon/lib/records.ts";

type Handler = (event: object) => Promise<void> | void;

const [, , path, measurement, given] = process.argv;
const count = Number(given);
const handler = ((await import(path!)) as { default: Handler }).default;
const ours = path!.includes("agentmon");
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What the gateway reports in a chat: a message, a bootstrap, a change of the session, a reply. */
function event(n: number): object {
  const sessionKey = `agent:main:telegram:${n % 7}`;
  const context = { channelId: "telegram", conversationId: `c${n % 7}`, messageId: `m${n}`, content: "x".repeat(200) };
  const [type, action] = [
    ["message", "received"],
    ["agent", "bootstrap"],
    ["session", "patch"],
    ["message", "sent"],
  ][n % 4]!;
  return { type, action, sessionKey, timestamp: new Date(), messages: [], context };
}

/** Hand over one event, and return the milliseconds until the handler is done with it. */
async function hand(n: number): Promise<number> {
  const start = performance.now();
  const done = handler(event(n));
  if (done) await done.catch(() => undefined); // OpenClaw waits for it, and catches what it throws
  return performance.now() - start;
}

const measurements: Record<string, () => Promise<object>> = {
  /** Each event after the one before it. */
  async latency() {
    const first = await hand(0);
    const took: number[] = [];
    for (let n = 1; n <= count; n++) {
      took.push(await hand(n));
      if (n % 10 === 0) await turn();
    }
    took.sort((a, b) => a - b);
    const at = (part: number): number => took[Math.min(took.length - 1, Math.floor(part * took.length))]!;
    return { first, median: at(0.5), p99: at(0.99), worst: took.at(-1) };
  },

  /** All events at once: the naive hook would take hours for one after another. */
  async together() {
    const took = await Promise.all(Array.from({ length: count }, (_, n) => hand(n)));
    took.sort((a, b) => a - b);
    return { first: took[0], median: took[Math.floor(count / 2)], p99: took.at(-1), worst: took.at(-1) };
  },

  /** Until everything is delivered. */
  async rate() {
    if (ours) emitter(); // as a gateway has it after its start
    const start = performance.now();
    for (let n = 0; n < count; n++) await hand(n);
    const taken = performance.now() - start;
    const found = ours ? emitter() : undefined;
    if (found) {
      await found.flush(1);
      while (found.stats().depth! > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const delivered = found ? found.stats().sent! : count;
    const seconds = (performance.now() - start) / 1000;
    return { taken: (count / taken) * 1000, delivered: delivered / seconds };
  },

  /** Growth of the memory; an endpoint that hangs keeps everything. The gateway does not wait for message events. */
  async memory() {
    await Promise.race([hand(1), turn()]);
    await turn();
    gc!();
    const before = process.memoryUsage();
    let peak = before.rss;
    for (let n = 0; n < count; n++) {
      void hand(n);
      if (n % 50 !== 0) continue;
      await turn();
      peak = Math.max(peak, process.memoryUsage.rss());
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    peak = Math.max(peak, process.memoryUsage.rss());
    gc!();
    const after = process.memoryUsage();
    return { peak: peak - before.rss, rss: after.rss - before.rss, heap: after.heapUsed - before.heapUsed };
  },

  /** Put so many bytes of events in the spool, as a killed process leaves them. */
  async fill() {
    const folder = join(process.env.OPENCLAW_STATE_DIR!, "agentmon");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const [schema, type] = [{ name: "agentmon.event", version: 1 }, "metric.snapshot"];
    const payload = { boot: "0".repeat(36), name: "cron", attributes: { "openclaw.cron.job": "x".repeat(200) } };
    let events = 0;
    for (let bytes = 0, segment = 0; bytes < count; segment++) {
      let text = "";
      while (text.length < 1024 * 1024 && bytes + text.length < count) {
        const source = { framework: "openclaw", client_id: "bench", host: "bench" };
        text += encode(JSON.stringify({ schema, event: { id: `${events}`, type, seq: ++events, source }, payload }));
      }
      bytes += text.length;
      // A process of this number does not exist.
      const name = `001800000000000-${String(segment).padStart(6, "0")}.4194999.1.log`;
      writeFileSync(join(folder, name), text, { mode: 0o600 });
    }
    return { events };
  },

  /** Start, deliver what the spool holds and so many events of one's own, and say the highest memory. */
  async restart() {
    for (let n = 0; n < count; n++) await hand(n);
    let peak = 0;
    const found = emitter()!;
    do {
      await new Promise((resolve) => setTimeout(resolve, 5));
      peak = Math.max(peak, process.memoryUsage.rss());
    } while (found.stats().sent! === 0 || found.stats().depth! > 0);
    return { peak, sent: found.stats().sent };
  },
};

const result = await measurements[measurement!]!();
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
