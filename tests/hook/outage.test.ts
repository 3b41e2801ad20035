import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { Endpoint, folder, quiet, settings, until } from "./support.ts";

/** Let a gateway live through half an hour without an endpoint, kill it, and return what it said. */
async function killed(path: string, cap: number): Promise<Record<string, number>> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "outage.ts"), path, String(cap)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  for await (const part of child.stdout) {
    said += part;
    if (said.endsWith("\n")) break;
  }
  child.kill("SIGKILL");
  await once(child, "exit");
  return JSON.parse(said);
}

const MB = 1024 * 1024;
for (const [what, cap] of [
  ["within the cap every event arrives", 64 * MB],
  ["beyond the cap the newest events arrive, and the others are counted", MB],
] as const) {
  test(`an hour without an endpoint, a gateway killed in the middle: ${what}, each once`, async (t) => {
    const path = folder(t);
    const [first, second] = [await killed(path, cap), await killed(path, cap)];
    const endpoint = await new Endpoint().start(t);
    const emitter = new Emitter(settings(endpoint.url, path, { batch: "array", spoolBytes: cap }), quiet());
    t.after(() => emitter.stop());
    await until(() => emitter.stats().sent! >= second.depth! && emitter.stats().depth === 0, "delivery");
    const ids = endpoint.events.map(({ event }) => event.id);
    assert.equal(new Set(ids).size, ids.length);
    const { dropped } = emitter.stats();
    assert.equal(ids.length + dropped!, first.made! + second.made!);
    assert.equal(dropped! > 0, cap === MB);
    const numbers = Map.groupBy(endpoint.events, ({ payload }) => payload.boot);
    for (const all of numbers.values()) {
      const last = all.at(-1).event.seq;
      assert.equal(last, first.made); // what is missing is older than what has arrived
      assert.deepEqual(
        all.map(({ event }) => event.seq),
        Array.from({ length: all.length }, (_, n) => last - all.length + n + 1),
      );
    }
  });
}

test("events on their way when a full spool drops them are counted, unless they arrive", async (t) => {
  let answer: (() => void) | undefined;
  const endpoint = await new Endpoint((_, __, response) => {
    answer = () => void response.writeHead(200).end();
    return undefined;
  }).start(t);
  const emitter = new Emitter(settings(endpoint.url, folder(t), { spoolBytes: 8 * 1024, timeout: 60_000 }), quiet());
  t.after(() => emitter.stop());
  const occur = (count: number): void => {
    for (let n = 0; n < count; n++)
      emitter.accept("plugin", "cron_changed", { event: { action: "added", jobId: "j" }, ctx: {} });
  };
  occur(1);
  await until(() => answer !== undefined, "the first request");
  occur(100);
  const counted = (): number => emitter.stats().depth! + emitter.stats().dropped! + emitter.stats().sent!;
  await until(() => emitter.stats().dropped! > 0, "drops");
  assert.equal(counted(), 101);
  answer!();
  await until(() => emitter.stats().sent === 1 && counted() === 101, "the count without what has arrived");
});
