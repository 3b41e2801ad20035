import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { configure } from "../../hooks/agentmon/lib/config.ts";
import { accept, emitter as made, Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { TYPES, Sealer, uuid7 } from "../../hooks/agentmon/lib/envelope.ts";
import { Clock, Endpoint, folder, quiet, settings, until } from "./support.ts";

const rejections: unknown[] = [];
process.on("unhandledRejection", (reason) => rejections.push(reason));

function emit(t: TestContext, url: string, path: string, more = {}): Emitter {
  const emitter = new Emitter(settings(url, path, { batch: "array", ...more }), quiet());
  t.after(() => emitter.stop());
  return emitter;
}
const occur = (emitter: Emitter, n: number): void =>
  emitter.accept("plugin", "cron_changed", { event: { action: "added", jobId: `job-${n}` }, ctx: {} });
const logs = (path: string): string[] => readdirSync(path).filter((name) => name.endsWith(".log"));

test("10,000 events in one tick are all delivered, in order, each once", async (t) => {
  const endpoint = await new Endpoint().start(t);
  const path = folder(t);
  const emitter = emit(t, endpoint.url, path);
  for (let n = 0; n < 10_000; n++) occur(emitter, n);
  await until(() => endpoint.events.length >= 10_000, "delivery");
  const { events } = endpoint;
  assert.deepEqual(
    events.map(({ event }) => event.seq),
    Array.from({ length: 10_000 }, (_, n) => n + 1),
  );
  assert.equal(new Set(events.map(({ event }) => event.id)).size, 10_000);
  await until(() => emitter.stats().depth === 0, "an empty spool");
  await until(() => logs(path).length === 0, "no file is left");
});

const place = globalThis as { [key: symbol]: unknown };
const key = Symbol.for("swarm.agentmon");
const jobs = (count: number, from = 0): void => {
  for (let n = from; n < from + count; n++)
    accept("plugin", "cron_changed", { event: { action: "added", jobId: `job-${n}` }, ctx: {} });
};
const delivered = (endpoint: Endpoint): string[] =>
  endpoint.events.map(({ payload }) => payload.attributes["openclaw.cron.job"]).filter(Boolean);

/** Set the hook's environment variables for a test, and remove the emitter after it. */
function environment(t: TestContext, url: string, more: Record<string, string> = {}): void {
  const own = { AGENTMON_INGEST_URL: url, OPENCLAW_STATE_DIR: folder(t), ...more };
  Object.assign(process.env, own);
  t.after(async () => {
    await made()?.stop();
    for (const name of Object.keys(own)) delete process.env[name];
    delete place[key];
  });
}

test("the first events wait for the emitter, which no handler makes, and keep their order", async (t) => {
  const endpoint = await new Endpoint().start(t);
  environment(t, endpoint.url);
  jobs(2);
  assert.equal(place[key], undefined);
  await new Promise((resolve) => setImmediate(resolve));
  assert.notEqual(place[key], undefined);
  assert.equal(made()?.stats().depth, 2);
  await made()?.stop();
  delete place[key];
  jobs(200);
  assert.notEqual(place[key], undefined); // a burst does not fill the memory
  await until(() => endpoint.events.length >= 202, "delivery");
  const after = endpoint.events.slice(2).map(({ event }) => event.seq);
  assert.deepEqual(after.slice(-200), Array.from({ length: 200 }, (_, n) => n + 1));
});

test("a reload of a newer version loses no event, and delivers each once", async (t) => {
  const endpoint = await new Endpoint(() => 503).start(t);
  environment(t, endpoint.url, { AGENTMON_BATCH: "array", AGENTMON_SPOOL_MB: "0.5" }); // segments of 64 KB
  jobs(10);
  await made()?.flush(100);
  jobs(400, 10); // not written yet
  Object.assign(place[key]!, { version: 0 });
  endpoint.answer = () => 200;
  jobs(10, 410);
  await until(() => delivered(endpoint).includes("job-419"), "delivery");
  assert.deepEqual(
    delivered(endpoint),
    Array.from({ length: 420 }, (_, n) => `job-${n}`),
  );
});

test("a half that a reload has left at an older version uses the newer one's emitter", async (t) => {
  const endpoint = await new Endpoint().start(t);
  environment(t, endpoint.url);
  const newer = made();
  Object.assign(place[key]!, { version: 1_000 });
  jobs(1);
  assert.equal(made(), newer);
  await until(() => delivered(endpoint).length > 0, "delivery");
});

test("a gateway that ends during a reload has written the events of both versions", async (t) => {
  const path = folder(t);
  const env = { ...process.env, AGENTMON_INGEST_URL: "http://127.0.0.1:9", OPENCLAW_STATE_DIR: path };
  const child = spawn(process.execPath, [join(import.meta.dirname, "reload.ts")], { env, stdio: "inherit" });
  await once(child, "exit");
  const spool = join(path, "agentmon");
  const text = logs(spool).map((name) => readFileSync(join(spool, name), "utf8"));
  for (const job of ["old", "new"]) assert.ok(text.join("").includes(`"openclaw.cron.job":"${job}"`), job);
});

test("every event has agentmon's envelope", async (t) => {
  const endpoint = await new Endpoint().start(t);
  const emitter = emit(t, endpoint.url, folder(t), { client: "vm1", host: "h1" });
  occur(emitter, 1);
  await emitter.flush();
  await until(() => endpoint.events.length >= 2, "delivery");
  for (const { schema, event, payload } of endpoint.events) {
    assert.deepEqual(schema, { name: "agentmon.event", version: 1 });
    assert.match(event.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.match(event.ts, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(TYPES.includes(event.type));
    assert.deepEqual(event.source, { framework: "openclaw", client_id: "vm1", host: "h1" });
    assert.equal(typeof payload.boot, "string");
  }
  const self = endpoint.events.find(({ payload }) => payload.name === "agentmon");
  for (const name of ["depth", "sent", "dropped", "refused"])
    assert.equal(typeof self.payload.attributes[`openclaw.agentmon.${name}`], "number");
});

test("an endpoint that hangs delays no event, and the flush at the end is bounded", async (t) => {
  const endpoint = await new Endpoint(() => undefined).start(t);
  const path = folder(t);
  const emitter = emit(t, endpoint.url, path, { timeout: 60_000 });
  const before = endpoint.requests.length;
  for (let n = 0; n < 1000; n++) occur(emitter, n);
  assert.equal(endpoint.requests.length, before); // all of it was taken before a request could begin
  await emitter.flush(300);
  assert.ok(emitter.stats().depth >= 1000);
  assert.ok(logs(path).length > 0);
});

test("what one process could not deliver, the next one delivers before its own events", async (t) => {
  const endpoint = await new Endpoint(() => 503).start(t);
  const path = folder(t);
  const first = emit(t, endpoint.url, path);
  for (let n = 0; n < 30; n++) occur(first, n);
  await first.flush(200);
  await first.stop();
  endpoint.answer = () => 200;
  const second = emit(t, endpoint.url, path);
  occur(second, 30);
  await until(
    () => endpoint.events.some(({ payload }) => payload.attributes["openclaw.cron.job"] === "job-30"),
    "delivery",
  );
  assert.deepEqual(
    delivered(endpoint),
    Array.from({ length: 31 }, (_, n) => `job-${n}`),
  );
});

test("what a process that ended meanwhile has left is delivered within a minute, not at the next start", async (t) => {
  const endpoint = await new Endpoint().start(t);
  const path = folder(t);
  const clock = new Clock();
  // No request is given up, however far the clock moves while the answer is on its way.
  const emitter = new Emitter(settings(endpoint.url, path, { timeout: 86_400_000 }), clock);
  t.after(() => emitter.stop());
  await emitter.flush();
  const child = spawn(process.execPath, [join(import.meta.dirname, "child.ts"), "exit", path]);
  await once(child, "exit"); // such as a command of OpenClaw
  clock.pass(60_000);
  await until(
    () => endpoint.events.filter(({ n }) => n !== undefined).length === 3,
    "delivery",
    () => clock.pass(100),
  );
  clock.pass(60_000);
  await until(
    () => logs(path).length === 0,
    "an empty spool",
    () => clock.pass(100),
  );
  assert.equal(endpoint.events.filter(({ n }) => n !== undefined).length, 3);
});

test("hostile events neither throw nor stop the ones behind them", async (t) => {
  const endpoint = await new Endpoint().start(t);
  const emitter = emit(t, endpoint.url, folder(t), { content: true });
  const cycle: Record<string, unknown> = { toolName: "t", toolCallId: "1" };
  cycle.params = cycle;
  const trap = new Proxy(
    {},
    {
      get: () => {
        throw new Error("trap");
      },
    },
  );
  for (const event of [
    null,
    undefined,
    7,
    "text",
    [],
    trap,
    cycle,
    { usage: trap },
    { toolName: Symbol("x"), toolCallId: 1n },
  ]) {
    for (const name of [
      "before_tool_call",
      "after_tool_call",
      "llm_output",
      "message_received",
      "agent_end",
      "nonsense",
    ]) {
      emitter.accept("plugin", name, { event, ctx: event });
    }
  }
  occur(emitter, 1);
  await until(() => JSON.stringify(endpoint.events).includes("job-1"), "delivery");
});

test("a killed gateway loses nothing that was spooled, and its next start delivers it once by id", async (t) => {
  const path = folder(t);
  const child = spawn(process.execPath, [join(import.meta.dirname, "gateway.ts"), path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  for await (const part of child.stdout) {
    said += part;
    if (said.split("\n").length > 10) break;
  }
  child.kill("SIGKILL");
  await once(child, "exit");
  const [taken] = said.trim().split("\n").slice(-1).map(Number);
  const endpoint = await new Endpoint().start(t);
  const emitter = emit(t, endpoint.url, path);
  await until(() => emitter.stats().sent! > 0 && emitter.stats().depth === 0, "delivery");
  const seqs = endpoint.events.map(({ event }) => event.seq);
  assert.deepEqual(
    seqs.slice(0, taken),
    Array.from({ length: taken! }, (_, n) => n + 1),
  ); // spooled: no gap
  assert.equal(new Set(endpoint.events.map(({ event }) => event.id)).size, seqs.length);
});

test("settings that cannot be used are named, and the rest still works", () => {
  const problems: string[] = [];
  const env = {
    AGENTMON_INGEST_URL: "http://u:p%40@h:8080",
    AGENTMON_BATCH: "xml",
    AGENTMON_TOKEN: "a\nb",
    AGENTMON_SPOOL_MB: "-1",
  };
  const config = configure(env, problems);
  assert.equal(problems.length, 3);
  assert.ok(!problems.join().includes("a\nb"));
  assert.deepEqual(
    [config.url, config.batch, config.spoolBytes],
    ["http://h:8080/v1/events", "single", 64 * 1024 * 1024],
  );
  assert.deepEqual(config.headers, { authorization: `Basic ${btoa("u:p@")}` });
  assert.equal(configure({ AGENTMON_INGEST_URL: "http://h/in?x=1" }).url, "http://h/in?x=1");
  assert.deepEqual(
    configure({ AGENTMON_INGEST_URL: "http://h", AGENTMON_TOKEN: "t", AGENTMON_TOKEN_HEADER: "X-Api-Key" })
      .headers,
    { "x-api-key": "t" },
  );
  assert.equal(configure({ AGENTMON_INGEST_URL: "file:///etc/passwd" }).url, undefined);
});

test("a password in a URL of the environment is redacted, as it is written there and decoded", async (t) => {
  const endpoint = await new Endpoint().start(t);
  environment(t, endpoint.url.replace("//", "//me:kestrel%2F42@"), {
    AGENTMON_CONTENT: "1",
    AGENTMON_TEST_PROXY: "http://me:hobby@falcon@proxy",
  });
  const content = "http://me:kestrel%2F42@host kestrel/42 hobby@falcon";
  accept("hook", "message:received", { event: { content }, ctx: {} });
  await until(() => endpoint.events.length > 0, "delivery");
  const text = endpoint.events[0].payload.attributes["openclaw.message.text"];
  assert.equal(text, "http://me:[redacted]@host [redacted] [redacted]");
});

test("a password in the URL may contain a percent sign that encodes nothing", () => {
  const { headers } = configure({ AGENTMON_INGEST_URL: "http://u:50%off%40@h" });
  assert.deepEqual(headers, { authorization: `Basic ${btoa("u:50%off@")}` });
});

test("a token goes into a header only if it cannot end the header or begin another one", () => {
  const headers = (token: string, header?: string): Record<string, string> =>
    configure({ AGENTMON_INGEST_URL: "http://h", AGENTMON_TOKEN: token, AGENTMON_TOKEN_HEADER: header }).headers;
  assert.deepEqual(headers("t\r\n"), { authorization: "Bearer t" }); // the end of a line in .env
  assert.deepEqual(headers("t\u00e9"), { authorization: "Bearer t\u00e9" });
  for (const token of ["t\r\nx: y", "t\0", "t\u20ac"]) assert.deepEqual(headers(token), {}, JSON.stringify(token));
  for (const name of ["x y", "x\r\ny", ": Bearer"]) assert.deepEqual(headers("t", name), {}, JSON.stringify(name));
});

test("a UUIDv7 carries the time, and seq begins at 1 for each boot", () => {
  const clock = new Clock();
  assert.equal(Number.parseInt(uuid7(clock).replaceAll("-", "").slice(0, 12), 16), clock.time);
  for (let boot = 0; boot < 2; boot++) {
    const sealer = new Sealer(settings("http://h", "/x"), clock);
    const seal = (): any => JSON.parse(sealer.seal({ type: "error", at: 0, payload: {} }));
    assert.deepEqual([seal().event.seq, seal().event.seq], [1, 2]);
  }
});

test("no rejected promise has escaped", () => assert.deepEqual(rejections, []));
