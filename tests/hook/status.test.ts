import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Sealer } from "../../hooks/agentmon/lib/envelope.ts";
import type { Entry } from "../../hooks/agentmon/lib/envelope.ts";
import { Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { HOOK_EVENTS, PLUGIN_EVENTS } from "../../hooks/agentmon/lib/mapping.ts";
import { family, Status } from "../../hooks/agentmon/lib/status.ts";
import { Clock, Endpoint, folder, quiet, settings, until } from "./support.ts";

const read = (path: string): any => JSON.parse(readFileSync(join(path, "status.json"), "utf8"));
const counts = (): Record<string, number> => ({ depth: 0 });

test("status.json says which half is loaded, and which family has reached the endpoint", async (t) => {
  const endpoint = await new Endpoint().start(t);
  const path = folder(t);
  const emitter = new Emitter(settings(endpoint.url, path), quiet());
  t.after(() => emitter.stop());
  emitter.accept("hook", "gateway:startup", { event: {}, ctx: {} });
  await emitter.flush();
  const first = read(path);
  assert.equal(first.pid, process.pid);
  assert.ok(first.halves.hook > 0);
  assert.equal(first.halves.plugin, 0);
  assert.ok(first.families.gateway.delivered > 0);
  assert.equal(first.trouble, "");
  endpoint.answer = () => 401;
  emitter.accept("plugin", "cron_changed", { event: { action: "added" }, ctx: {} });
  await until(() => read(path).trouble === "HTTP 401", "the trouble is written");
  const second = read(path);
  assert.ok(second.halves.plugin > 0);
  assert.ok(second.families.cron.happened > 0);
  assert.equal(second.families.cron.delivered, 0);
  assert.ok(second.depth > 0);
});

test("status.json is private, and is written once for many changes", (t) => {
  const path = folder(t);
  const clock = new Clock();
  const status = new Status(path, clock, counts);
  for (let n = 0; n < 1000; n++)
    status.happened({ type: "run.start", at: clock.now(), payload: { name: "message" } });
  assert.deepEqual(readdirSync(path), []);
  clock.pass(1_000);
  assert.equal(statSync(join(path, "status.json")).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(path), ["status.json"]);
  assert.equal(clock.next, undefined);
});

test("what an earlier process delivered is remembered, and a damaged file is not", (t) => {
  const path = folder(t);
  const clock = new Clock();
  const first = new Status(path, clock, counts);
  first.delivered(['{"event":{"type":"span.end"},"payload":{"name":"chat"}}', "not JSON"]);
  first.write();
  const second = new Status(path, clock, counts);
  second.called("hook");
  second.write();
  assert.deepEqual(read(path).families, { model: { happened: 0, delivered: clock.now() } });
  writeFileSync(join(path, "status.json"), '{"families": {"model": null');
  const third = new Status(path, clock, counts);
  third.write();
  assert.deepEqual(read(path).families, {});
});

test("a link in place of the file is replaced, not followed", (t) => {
  const path = folder(t);
  const other = join(folder(t), "other");
  writeFileSync(other, "kept");
  symlinkSync(other, join(path, "status.json"));
  new Status(path, new Clock(), counts).write();
  assert.equal(readFileSync(other, "utf8"), "kept");
  assert.equal(read(path).format, 1);
});

test("a folder that cannot be used is no reason to throw", () => {
  const status = new Status("/proc/no-such-folder", new Clock(), counts);
  status.called("hook");
  status.write();
  status.stop();
});

test("an event's family follows from its type and name", () => {
  const cases: [string, string, string][] = [
    ["session.end", "reset", "session"],
    ["run.start", "message", "run"],
    ["error", "message", "run"],
    ["span.start", "chat", "model"],
    ["metric.snapshot", "usage", "model"],
    ["span.end", "execute_tool", "tool"],
    ["span.start", "invoke_agent", "subagent"],
    ["span.start", "compaction", "compaction"],
    ["metric.snapshot", "gateway.start", "gateway"],
    ["metric.snapshot", "cron.reconciled", "cron"],
  ];
  for (const [type, name, wanted] of cases) assert.equal(family(type, name), wanted);
  const rows = [...Object.values(HOOK_EVENTS), ...Object.values(PLUGIN_EVENTS)];
  const named = rows.filter(({ act }) => act === "occurrence" || act.startsWith("span"));
  for (const { name } of named) assert.match(family("span.start", name), /^[a-z]+$/, name);
});

test("the family of an event is found without parsing it, in whatever form it was spooled", (t) => {
  const path = folder(t);
  const status = new Status(path, new Clock(), counts);
  const entries: [string, string, string][] = [
    ["span.end", "execute_tool", "tool"],
    ["session.start", "x", "session"],
    ["metric.snapshot", "agentmon", "agentmon"],
  ];
  const sealer = new Sealer(settings("", path), new Clock());
  const events = entries.map(([type, name]) => sealer.seal({ type, at: 0, payload: { name } } as Entry));
  const parse = JSON.parse;
  t.after(() => (JSON.parse = parse));
  JSON.parse = () => assert.fail("an event was parsed");
  status.delivered(events.slice(0, 2));
  JSON.parse = parse;
  status.delivered([JSON.stringify(JSON.parse(events[2]!), null, 1)]);
  status.write();
  assert.deepEqual(Object.keys(read(path).families), entries.map(([, , name]) => name));
});
