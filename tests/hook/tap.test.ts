import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { encode } from "../../hooks/agentmon/lib/records.ts";
import { tap } from "../../hooks/agentmon/lib/tap.ts";
import { Endpoint, folder, quiet, settings, until } from "./support.ts";

const job = (n: number) => ({ event: { action: "added", jobId: `job-${n}` }, ctx: {} });
const jobs = (endpoint: Endpoint): string[] =>
  endpoint.events.map(({ payload }) => payload.attributes?.["openclaw.cron.job"]).filter(Boolean);

test("events go to swarm's receiver until its file is removed, then to the endpoint with those put back", async (t) => {
  const [endpoint, receiver] = [await new Endpoint().start(t), await new Endpoint().start(t)];
  const [path, warnings] = [folder(t), [] as string[]];
  const file = join(folder(t), "agentmon-receiver");
  writeFileSync(file, `${new URL(receiver.url).port}`);
  const own = { receiver: file, headers: { authorization: "Bearer t" } };
  const emitter = new Emitter(settings(endpoint.url, path, own), quiet(warnings));
  t.after(() => emitter.stop());
  for (const n of [1, 2]) emitter.accept("plugin", "cron_changed", job(n));
  await until(() => jobs(receiver).length === 2, "the receiver's events");
  receiver.answer = () => 503; // the proof is complete
  emitter.accept("plugin", "cron_changed", job(3));
  await until(() => emitter.stats().retries! > 0, "an attempt that the receiver refuses");
  const back = receiver.events.map((event) => encode(JSON.stringify(event))).join("");
  writeFileSync(join(path, "000000000000001-000000.0.0.log"), back);
  rmSync(file);
  await until(() => jobs(endpoint).length === 3, "delivery");
  assert.deepEqual(jobs(endpoint).sort(), ["job-1", "job-2", "job-3"]);
  assert.deepEqual(warnings, []);
  const tokens = (at: Endpoint) => [...new Set(at.requests.map(({ headers }) => headers.authorization))];
  assert.deepEqual([tokens(receiver), tokens(endpoint)], [[undefined], ["Bearer t"]]);
});

test("only a file that holds a port and was made within the hour leads events away", (t) => {
  const file = join(folder(t), "agentmon-receiver");
  const now = Date.now();
  assert.equal(tap(undefined, now), undefined);
  assert.equal(tap(file, now), undefined);
  writeFileSync(file, "20001\n");
  assert.equal(tap(file, now), "http://127.0.0.1:20001/v1/events");
  for (const days of [-1, 1]) {
    utimesSync(file, now / 1000 + days * 86_400, now / 1000 + days * 86_400);
    assert.equal(tap(file, now), undefined, `${days}`);
  }
  for (const text of ["", "0", "123456", "1 2", "x", "80/../", "80@example.org"]) {
    writeFileSync(file, text);
    assert.equal(tap(file, now), undefined, text);
  }
  writeFileSync(`${file}.other`, "20001");
  for (const make of [
    () => symlinkSync(`${file}.other`, file),
    () => mkdirSync(file),
    () => void execFileSync("mkfifo", [file]), // to open one would wait for a writer
  ]) {
    rmSync(file, { recursive: true });
    make();
    assert.equal(tap(file, now), undefined);
  }
});
