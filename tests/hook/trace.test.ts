import assert from "node:assert/strict";
import { test } from "node:test";
import type { Entry } from "../../hooks/agentmon/lib/envelope.ts";
import { Cleaner } from "../../hooks/agentmon/lib/fields.ts";
import { Tracer } from "../../hooks/agentmon/lib/trace.ts";
import type { Half } from "../../hooks/agentmon/lib/trace.ts";
import { Clock } from "./support.ts";

class Story {
  clock = new Clock();
  tracer = new Tracer(this.clock, new Cleaner(Buffer.from("salt")), { content: false, plainSessions: true });
  all: Entry[] = [];

  say(half: Half, name: string, event: object, ctx: object = {}): this {
    this.all.push(...this.tracer.handle(half, name, { event, ctx: { sessionKey: "s", ...ctx } }));
    this.clock.pass(5);
    return this;
  }

  pass(ms: number): this {
    this.clock.pass(ms);
    this.all.push(...this.tracer.sweep());
    return this;
  }

  types(): string[] {
    return this.all.map(({ type, payload }) => (type.startsWith("span") ? `${type} ${payload.name}` : type));
  }

  of(type: string): Record<string, any>[] {
    return this.all.filter((entry) => entry.type === type).map(({ payload }) => payload);
  }

  received(id = "m1"): this {
    return this.say("hook", "message:received", { messageId: id }).say("plugin", "message_received", {
      messageId: id,
    });
  }

  call(run = "r1", outcome = "completed"): this {
    const event = { runId: run, callId: `${run}:1`, provider: "p", model: "m" };
    return this.say("plugin", "model_call_started", event).say("plugin", "model_call_ended", {
      ...event,
      outcome,
      durationMs: 5,
    });
  }

  tool(run = "r1", id = "c1"): this {
    const event = { runId: run, toolCallId: id, toolName: "exec" };
    return this.say("plugin", "before_tool_call", event).say("plugin", "after_tool_call", event);
  }
}

const usage = { input: 22, output: 14, cacheRead: 0 };

test("a message, its model call, its tool and its reply form one run with one trace", () => {
  const story = new Story().received().call().tool();
  story
    .say("plugin", "agent_end", { runId: "r1", success: true })
    .say("plugin", "llm_output", { runId: "r1", usage });
  story
    .say("hook", "message:sent", { messageId: "m2", success: true })
    .say("plugin", "message_sent", { messageId: "m2", success: true });
  assert.deepEqual(story.types(), [
    "run.start",
    "span.start chat",
    "span.end chat",
    "span.start execute_tool",
    "span.end execute_tool",
    "metric.snapshot",
    "run.end",
  ]);
  assert.equal(new Set(story.all.map(({ payload }) => payload.run)).size, 1);
  assert.equal(new Set(story.all.map(({ payload }) => payload.trace)).size, 1);
  const [end] = story.of("run.end");
  assert.deepEqual(end?.usage, { input_tokens: 22, output_tokens: 14, cache_read_input_tokens: 0 });
  assert.equal(end?.status, "ok");
});

test("a command's reply without an agent ends its run", () => {
  const story = new Story().received().say("hook", "message:sent", { messageId: "m2" });
  assert.deepEqual(story.types(), ["run.start", "run.end"]);
});

test("a webchat reply, which has no message:sent, ends its run by agent_end", () => {
  const story = new Story()
    .received()
    .call()
    .say("plugin", "agent_end", { runId: "r1" })
    .say("plugin", "llm_output", { runId: "r1", usage });
  assert.equal(story.of("run.end").length, 1);
});

test("without llm_output a run still ends, and has no token counts", () => {
  const story = new Story().received().call().say("plugin", "agent_end", { runId: "r1" });
  assert.equal(story.of("run.end").length, 0);
  const [end] = story.pass(1_100).of("run.end");
  assert.ok(end && !("usage" in end));
  assert.ok(!JSON.stringify(end).includes("usage."));
});

test("without llm_output and agent_end a run ends as unknown after a while, and has no token counts", () => {
  const story = new Story().received().call().pass(119_000);
  assert.equal(story.of("run.end").length, 0);
  const [end] = story.pass(2_000).of("run.end");
  assert.equal(end?.status, "unknown");
  assert.ok(!("usage" in end!));
});

test("without llm_output and agent_end the next message ends the run", () => {
  const story = new Story().received("m1").call().pass(10_000).received("m9");
  assert.deepEqual(story.types().slice(-2), ["run.end", "run.start"]);
});

test("an after_tool_call that fires twice is one span.end", () => {
  const story = new Story()
    .received()
    .call()
    .tool()
    .say("plugin", "after_tool_call", { runId: "r1", toolCallId: "c1", toolName: "exec" });
  assert.equal(story.of("span.end").filter(({ name }) => name === "execute_tool").length, 1);
});

test("an after_tool_call without its beginning gets a span.start that is dated back", () => {
  const story = new Story()
    .received()
    .call()
    .say("plugin", "after_tool_call", { runId: "r1", toolCallId: "c9", toolName: "exec", durationMs: 3000 });
  const [start, end] = story.all.slice(-2);
  assert.equal(start?.type, "span.start");
  assert.equal(end!.at - start!.at, 3000);
  assert.equal(end?.payload.span, start?.payload.span);
});

test("a span without an end is closed as unknown when its run ends", () => {
  const story = new Story()
    .received()
    .call()
    .say("plugin", "before_tool_call", { runId: "r1", toolCallId: "c1", toolName: "exec" });
  story.say("plugin", "agent_end", { runId: "r1" }).say("plugin", "llm_output", { runId: "r1", usage });
  assert.deepEqual(story.types().slice(-2), ["span.end execute_tool", "run.end"]);
  assert.equal(story.of("span.end").at(-1)?.status, "unknown");
});

test("a span that ends after its run is not reported again", () => {
  const story = new Story()
    .received()
    .call()
    .say("plugin", "before_tool_call", { runId: "r1", toolCallId: "c1", toolName: "exec" });
  story.say("plugin", "agent_end", { runId: "r1" }).say("plugin", "llm_output", { runId: "r1", usage });
  const before = story.all.length;
  story.say("plugin", "after_tool_call", { runId: "r1", toolCallId: "c1", toolName: "exec" });
  assert.equal(story.all.length, before);
});

test("a failed model call makes an error and a failed run, although agent_end calls it a success", () => {
  const story = new Story()
    .received()
    .call("r1", "error")
    .say("plugin", "agent_end", { runId: "r1", success: true })
    .pass(1_100);
  assert.equal(story.of("error").length, 1);
  assert.equal(story.of("run.end")[0]?.status, "error");
});

test("an agent without a message, as from the command line, gets a run of its own", () => {
  const story = new Story().call("r7").say("plugin", "agent_end", { runId: "r7" }).pass(1_100);
  assert.deepEqual(story.types(), ["run.start", "span.start chat", "span.end chat", "run.end"]);
});

test("a compaction outside of a run gets a run, with its model call, and both halves report one span", () => {
  const story = new Story()
    .say("plugin", "before_compaction", { messageCount: 4 })
    .say("hook", "session:compact:before", { messageCount: 4 });
  story.call("x:compaction:1").say("hook", "session:compact:after", {}).say("plugin", "after_compaction", {});
  story.pass(1_100);
  assert.equal(story.of("run.end")[0]?.status, "ok");
  assert.deepEqual(story.types(), [
    "run.start",
    "span.start compaction",
    "span.start chat",
    "span.end chat",
    "span.end compaction",
    "run.end",
  ]);
});

test("a subagent that ends after the run that started it says how", () => {
  const story = new Story().received().call();
  const ctx = { requesterSessionKey: "s" };
  story.say("plugin", "subagent_spawned", { childSessionKey: "child", runId: "r2", mode: "run" }, ctx);
  story.say("plugin", "agent_end", { runId: "r1", success: true }).pass(1_000);
  for (let repeat = 0; repeat < 2; repeat++)
    story.say("plugin", "subagent_ended", { targetSessionKey: "child", outcome: "timeout", runId: "r2" }, ctx);
  const span = story.of("span.start").find(({ name }) => name === "invoke_agent");
  assert.equal(story.of("span.end").at(-1)?.status, "unknown");
  assert.deepEqual(
    story.of("metric.snapshot").map(({ name, status, trace, parent }) => [name, status, trace, parent]),
    [["invoke_agent", "error", span?.trace, span?.span]],
  );
});

/** `/compact` in a chat: OpenClaw reports no agent_end, and no end of a compaction that fails. */
function compact(fails: boolean): Story {
  const story = new Story().received().say("hook", "session:compact:before", {});
  story.say("plugin", "before_compaction", {}, { runId: "r1" }).call();
  if (!fails) {
    story.say("plugin", "after_compaction", { compactedCount: 2 }, { runId: "r1" });
    story.say("hook", "session:compact:after", { compactedCount: 2 });
  }
  return story.say("plugin", "message_sent", { success: true, messageId: "m2" });
}

test("a compaction that was asked for in a chat ends with its reply, also if it fails", () => {
  for (const fails of [false, true]) {
    const story = compact(fails).pass(1_000);
    assert.equal(story.of("run.end").length, 1);
    const ends = story.of("span.end").map(({ name, status }) => `${name} ${status}`);
    assert.deepEqual(ends.sort(), ["chat ok", `compaction ${fails ? "unknown" : "ok"}`]);
  }
});

test("a failed compaction of no message ends as unknown after a while", () => {
  const story = new Story().say("hook", "session:compact:before", {}).call().pass(119_000);
  assert.equal(story.of("run.end").length, 0);
  story.pass(1_000);
  assert.deepEqual(
    story.of("run.end").map(({ status }) => status),
    ["unknown"],
  );
});

test("a turn that begins with a compaction is one run, however long its model call takes", () => {
  for (const message of [true, false]) {
    const story = message ? new Story().received() : new Story();
    story.say("hook", "session:compact:before", {}).call();
    story.say("hook", "session:compact:after", {});
    const event = { runId: "r1", callId: "r1:2" };
    story.say("plugin", "model_call_started", event).pass(60_000);
    story.say("plugin", "model_call_ended", { ...event, outcome: "completed" });
    story.say("plugin", "agent_end", { runId: "r1", success: true }).pass(1_000);
    assert.deepEqual([story.of("run.start").length, story.of("run.end").length], [1, 1]);
    assert.deepEqual([...new Set(story.of("span.end").map(({ status }) => status))], ["ok"]);
  }
});

test("a subagent's run has its parent's trace, and its span as the parent", () => {
  const story = new Story().received().call();
  story.say(
    "plugin",
    "subagent_spawned",
    { childSessionKey: "child", agentId: "a", runId: "r2", mode: "run" },
    { requesterSessionKey: "s", runId: "r1" },
  );
  story.say(
    "plugin",
    "model_call_started",
    { runId: "r2", callId: "k", sessionKey: "child" },
    { sessionKey: "child" },
  );
  story.say(
    "plugin",
    "subagent_ended",
    { targetSessionKey: "child", outcome: "ok", runId: "r2" },
    { requesterSessionKey: "s" },
  );
  const [parent, child] = story.of("run.start");
  const span = story.of("span.start").find(({ name }) => name === "invoke_agent");
  assert.equal(span?.run, parent?.run);
  assert.equal(child?.trace, parent?.trace);
  assert.equal(child?.parent, span?.span);
  const end = story.of("span.end").find(({ name }) => name === "invoke_agent");
  assert.deepEqual([end?.run, end?.span], [parent?.run, span?.span]);
});

test("both halves report a session's start and end once", () => {
  const story = new Story()
    .say("plugin", "session_end", { reason: "new" })
    .say("plugin", "session_start", {})
    .say("hook", "command:new", {});
  assert.deepEqual(story.types(), ["session.end", "session.start"]);
});

test("no span lacks its run, whatever the order of events", () => {
  const names = [
    "model_call_started",
    "model_call_ended",
    "before_tool_call",
    "after_tool_call",
    "before_compaction",
    "after_compaction",
    "agent_end",
    "llm_output",
    "message_received",
    "message_sent",
    "session_end",
    "subagent_spawned",
    "subagent_ended",
  ];
  let seed = 7;
  const pick = (count: number): number => (seed = (seed * 1103515245 + 12345) % 2147483648) % count;
  const story = new Story();
  for (let i = 0; i < 5_000; i++) {
    const event = {
      runId: `r${pick(5)}`,
      callId: `k${pick(4)}`,
      toolCallId: `c${pick(4)}`,
      toolName: "t",
      childSessionKey: "c",
      targetSessionKey: "c",
    };
    story.say("plugin", names[pick(names.length)]!, event, {
      sessionKey: `s${pick(3)}`,
      requesterSessionKey: `s${pick(3)}`,
    });
    if (pick(50) === 0) story.pass(1_500);
  }
  story.all.push(...story.tracer.close());
  const started = new Map<string, string>();
  const ended = new Set<string>();
  const runs = new Map<string, number>();
  for (const { type, payload } of story.all as { type: string; payload: Record<string, any> }[]) {
    if (type === "run.start") runs.set(payload.run, (runs.get(payload.run) ?? 0) + 1);
    if (type === "span.start") started.set(payload.span, payload.run);
    if (type === "span.end") {
      assert.equal(started.get(payload.span), payload.run);
      assert.ok(!ended.has(payload.span));
      ended.add(payload.span);
    }
    if (type.startsWith("span")) assert.ok(runs.has(payload.run));
  }
  assert.equal(ended.size, started.size);
  assert.equal(story.of("run.end").length, runs.size);
  assert.equal(story.tracer.open, 0);
});

test("twenty thousand runs and spans that never end stay bounded", () => {
  const story = new Story();
  let out = 0;
  for (let i = 0; i < 20_000; i++) {
    out += story.tracer.handle("plugin", "model_call_started", {
      event: { runId: `r${i}`, callId: "k" },
      ctx: { sessionKey: `s${i}` },
    }).length;
  }
  assert.ok(story.tracer.open <= 500);
  assert.ok(out > 20_000);
});
