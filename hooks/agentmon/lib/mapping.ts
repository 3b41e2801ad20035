// The one table: what becomes of each event of OpenClaw 2026.9. Nothing that is not named here is ever sent.
//
// A path starts with `event` (a plugin hook's first argument; the context of a HOOK.md event) or with `ctx` (a plugin
// hook's second argument; the HOOK.md event's own session key). lib/fields.ts reads and cleans the values.

/** The version of OpenTelemetry's semantic conventions that the gen_ai.* and error.* names come from. */
export const SEMCONV = "1.40.0";

/** Where the correlation ids stand in the payload. */
export const IDS = {
  session: "session",
  run: "run",
  trace: "trace",
  span: "span",
  parent: "parent",
} as const;

/** What lib/trace.ts does with an event. */
export type Act =
  | "session.start"
  | "session.end"
  | "run.start" // a message arrived
  | "run.usage" // token counts
  | "run.replied" // a reply was sent: the run is over, unless the agent is still at work
  | "run.done" // the agent is done
  | "span.start"
  | "span.end"
  | "occurrence"; // belongs to no run: a metric.snapshot

/** How a value is cleaned: an id or a name, a lower-case word, a number, a flag, or hashed. */
export type Kind = "name" | "word" | "number" | "flag" | "hash" | "text";
export type Field = readonly [path: string, kind: Kind];
export type Fields = Readonly<Record<string, Field>>;

export interface Row {
  act: Act;
  name: string;
  attributes: Fields;
  /** Sent only with AGENTMON_CONTENT=1. */
  content?: Fields;
  /** For spans: the paths of what identifies the span within its run. */
  key?: readonly string[];
  /** Where the session key is, if not at the usual paths. */
  session?: string;
  /** Where OpenClaw's run id is, if not at the usual paths. Empty if the row has none. */
  run?: string;
  /** The status: the first path with a value. */
  status?: readonly string[];
  /** A path whose mere presence means failure. */
  failed?: string;
  /** Token counts by the names of payload.usage. */
  usage?: Fields;
  /** Constant attributes. */
  fixed?: Readonly<Record<string, string>>;
}

const AGENT: Fields = { "gen_ai.agent.id": ["ctx.agentId", "name"] };
const SESSION: Fields = {
  "gen_ai.agent.id": ["event.agentId", "name"],
  "openclaw.session.source": ["event.commandSource", "name"],
};
const CHANNEL: Fields = {
  "openclaw.channel": ["event.channelId|ctx.channelId", "name"],
  "openclaw.conversation.hash": ["event.conversationId|ctx.conversationId", "hash"],
  "openclaw.message.hash": ["event.messageId|ctx.messageId", "hash"],
};
const SENT: Fields = { ...CHANNEL, "openclaw.message.success": ["event.success", "flag"] };
const MODEL: Fields = {
  "gen_ai.provider.name": ["event.provider", "name"],
  "gen_ai.request.model": ["event.model", "name"],
  "openclaw.model.api": ["event.api", "name"],
  "openclaw.model.transport": ["event.transport", "name"],
  "openclaw.run.id": ["event.runId", "name"],
  "openclaw.trace.id": ["ctx.trace.traceId", "name"],
};
const MODEL_ENDED: Fields = {
  ...MODEL,
  "openclaw.model.outcome": ["event.outcome", "word"],
  "error.type": ["event.errorCategory|event.failureKind", "word"],
  "openclaw.model.failure": ["event.failureKind", "word"],
  "openclaw.model.request_bytes": ["event.requestPayloadBytes", "number"],
  "openclaw.model.response_bytes": ["event.responseStreamBytes", "number"],
  "openclaw.model.time_to_first_byte_ms": ["event.timeToFirstByteMs", "number"],
  "openclaw.duration_ms": ["event.durationMs", "number"],
};
const TOOL: Fields = {
  "gen_ai.tool.name": ["event.toolName", "name"],
  "gen_ai.tool.call.id": ["event.toolCallId|ctx.toolCallId", "name"],
  "gen_ai.agent.id": ["ctx.agentId", "name"],
};
const TOOL_ENDED: Fields = { ...TOOL, "openclaw.duration_ms": ["event.durationMs", "number"] };
const COMPACTION: Fields = {
  "openclaw.compaction.messages": ["event.messageCount", "number"],
  "openclaw.compaction.tokens": ["event.tokenCount", "number"],
};
const COMPACTED: Fields = {
  ...COMPACTION,
  "openclaw.compaction.compacted": ["event.compactedCount", "number"],
};
const SUBAGENT: Fields = {
  "gen_ai.agent.id": ["event.agentId", "name"],
  "openclaw.subagent.mode": ["event.mode", "word"],
};
const CRON: Fields = {
  "openclaw.cron.action": ["event.action", "word"],
  "openclaw.cron.job": ["event.jobId", "name"],
  "openclaw.cron.status": ["event.status", "word"],
  "openclaw.cron.delivery": ["event.deliveryStatus", "word"],
  "openclaw.duration_ms": ["event.durationMs", "number"],
};
/** payload.usage, and the attributes of the metric.snapshot that goes with it. */
export const USAGE: Fields = {
  "gen_ai.usage.input_tokens": ["event.usage.input", "number"],
  "gen_ai.usage.output_tokens": ["event.usage.output", "number"],
  "gen_ai.usage.cache_read.input_tokens": ["event.usage.cacheRead", "number"],
  "gen_ai.usage.cache_creation.input_tokens": ["event.usage.cacheWrite", "number"],
};
const MESSAGE_TEXT: Fields = { "openclaw.message.text": ["event.content", "text"] };

const messageIn: Row = { act: "run.start", name: "message", attributes: CHANNEL, content: MESSAGE_TEXT };
const messageOut: Row = {
  act: "run.replied",
  name: "message",
  attributes: SENT,
  content: MESSAGE_TEXT,
  failed: "event.error",
};
const compacting: Row = { act: "span.start", name: "compaction", key: [], attributes: COMPACTION };
const compacted: Row = { act: "span.end", name: "compaction", key: [], attributes: COMPACTED };
const occurrence = (name: string, attributes: Fields): Row => ({ act: "occurrence", name, attributes });

/** Events of HOOK.md hooks, by `type:action`. */
export const HOOK_EVENTS: Readonly<Record<string, Row>> = {
  "command:new": { act: "session.start", name: "new", attributes: SESSION },
  "command:reset": { act: "session.end", name: "reset", attributes: SESSION },
  "command:stop": { act: "session.end", name: "stop", attributes: SESSION },
  "session:auto-reset": { act: "session.end", name: "auto-reset", attributes: SESSION },
  "session:patch": occurrence("session.patch", {}),
  "session:compact:before": compacting,
  "session:compact:after": compacted,
  "agent:bootstrap": occurrence("agent.bootstrap", { "gen_ai.agent.id": ["event.agentId", "name"] }),
  "gateway:startup": occurrence("gateway.startup", {}),
  "gateway:shutdown": occurrence("gateway.shutdown", { "openclaw.reason": ["event.reason", "word"] }),
  "gateway:pre-restart": occurrence("gateway.pre-restart", { "openclaw.reason": ["event.reason", "word"] }),
  "message:received": messageIn,
  "message:sent": messageOut,
};

/** Events of plugin hooks. */
export const PLUGIN_EVENTS: Readonly<Record<string, Row>> = {
  session_start: { act: "session.start", name: "session", attributes: AGENT },
  session_end: {
    act: "session.end",
    name: "session",
    attributes: {
      ...AGENT,
      "openclaw.reason": ["event.reason", "word"],
      "openclaw.duration_ms": ["event.durationMs", "number"],
    },
  },
  message_received: messageIn,
  message_sent: messageOut,
  model_call_started: {
    act: "span.start",
    name: "chat",
    key: ["event.callId"],
    attributes: MODEL,
    fixed: { "gen_ai.operation.name": "chat" },
  },
  model_call_ended: {
    act: "span.end",
    name: "chat",
    key: ["event.callId"],
    attributes: MODEL_ENDED,
    status: ["event.outcome"],
    fixed: { "gen_ai.operation.name": "chat" },
  },
  llm_output: {
    act: "run.usage",
    name: "usage",
    usage: USAGE,
    attributes: {
      "gen_ai.provider.name": ["event.provider", "name"],
      "gen_ai.response.model": ["event.model", "name"],
    },
    content: { "gen_ai.output.messages": ["event.assistantTexts", "text"] },
  },
  before_tool_call: {
    act: "span.start",
    name: "execute_tool",
    key: ["event.toolCallId|ctx.toolCallId|event.toolName"],
    attributes: TOOL,
    content: { "gen_ai.tool.call.arguments": ["event.params", "text"] },
    fixed: { "gen_ai.operation.name": "execute_tool" },
  },
  after_tool_call: {
    act: "span.end",
    name: "execute_tool",
    key: ["event.toolCallId|ctx.toolCallId|event.toolName"],
    attributes: TOOL_ENDED,
    failed: "event.error",
    content: {
      "gen_ai.tool.call.result": ["event.result", "text"],
      "openclaw.error.message": ["event.error", "text"],
    },
    fixed: { "gen_ai.operation.name": "execute_tool" },
  },
  agent_end: {
    act: "run.done",
    name: "agent",
    failed: "event.error",
    attributes: {
      ...AGENT,
      "openclaw.run.id": ["event.runId|ctx.runId", "name"],
      "openclaw.trigger": ["ctx.trigger", "word"],
      "openclaw.duration_ms": ["event.durationMs", "number"],
    },
    content: { "openclaw.error.message": ["event.error", "text"] },
  },
  before_compaction: compacting,
  after_compaction: compacted,
  subagent_spawned: {
    act: "span.start",
    name: "invoke_agent",
    key: ["event.childSessionKey"],
    session: "ctx.requesterSessionKey",
    run: "", // the run id is the child's
    attributes: SUBAGENT,
    fixed: { "gen_ai.operation.name": "invoke_agent" },
  },
  subagent_ended: {
    act: "span.end",
    name: "invoke_agent",
    key: ["event.targetSessionKey"],
    session: "ctx.requesterSessionKey",
    run: "", // the run id is the child's
    attributes: { "openclaw.reason": ["event.reason", "word"] },
    status: ["event.outcome"],
    failed: "event.error",
    fixed: { "gen_ai.operation.name": "invoke_agent" },
  },
  before_reset: occurrence("session.reset", { "openclaw.reason": ["event.reason", "word"] }),
  cron_changed: occurrence("cron", CRON),
  cron_reconciled: occurrence("cron.reconciled", { "openclaw.reason": ["event.reason", "word"] }),
  gateway_start: occurrence("gateway.start", {}),
  gateway_stop: occurrence("gateway.stop", { "openclaw.reason": ["event.reason", "word"] }),
};
