import assert from "node:assert/strict";
import { test } from "node:test";
import { Cleaner } from "../../hooks/agentmon/lib/fields.ts";
import { Tracer } from "../../hooks/agentmon/lib/trace.ts";
import { Clock } from "./support.ts";

const HOUR = 3_600_000;

function trace() {
  const clock = new Clock();
  const tracer = new Tracer(clock, new Cleaner(Buffer.from("salt")), { content: false, plainSessions: true });
  const say = (name: string, event: object) =>
    tracer.handle("plugin", name, { event, ctx: { sessionKey: "s", runId: "r" } });
  return { clock, tracer, say };
}

test("no duration is negative after the clock was set back", () => {
  const { clock, tracer, say } = trace();
  say("before_tool_call", { toolName: "exec", toolCallId: "c" });
  clock.time -= HOUR;
  const ended = [...say("after_tool_call", { toolName: "exec", toolCallId: "c" }), ...tracer.close()];
  assert.deepEqual(
    ended.map(({ type, payload }) => [type, payload.duration_ms]),
    [
      ["span.end", 0],
      ["run.end", 0],
    ],
  );
});

test("a session that starts again after the clock was set back is no repeat", () => {
  const { clock, say } = trace();
  assert.equal(say("session_start", {}).length, 1);
  clock.time -= HOUR;
  assert.equal(say("session_start", {}).length, 1);
});

test("a run that is over ends within seconds, also if the clock was set back", () => {
  const { clock, tracer, say } = trace();
  say("agent_end", { success: true });
  clock.time -= HOUR;
  assert.deepEqual(tracer.sweep(), []);
  clock.pass(2_000);
  assert.deepEqual(
    tracer.sweep().map(({ type, payload }) => [type, payload.status]),
    [["run.end", "ok"]],
  );
});
