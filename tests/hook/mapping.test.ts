import assert from "node:assert/strict";
import { test } from "node:test";
import { TYPES } from "../../hooks/agentmon/lib/envelope.ts";
import { Cleaner } from "../../hooks/agentmon/lib/fields.ts";
import { HOOK_EVENTS, PLUGIN_EVENTS, SEMCONV, USAGE } from "../../hooks/agentmon/lib/mapping.ts";
import type { Row } from "../../hooks/agentmon/lib/mapping.ts";
import { Tracer } from "../../hooks/agentmon/lib/trace.ts";
import type { Half } from "../../hooks/agentmon/lib/trace.ts";
import { Clock } from "./support.ts";

const rows: [Half, string, Row][] = [
  ...Object.entries(HOOK_EVENTS).map(([name, row]): [Half, string, Row] => ["hook", name, row]),
  ...Object.entries(PLUGIN_EVENTS).map(([name, row]): [Half, string, Row] => ["plugin", name, row]),
];
const names = (row: Row): string[] =>
  Object.keys({ ...row.attributes, ...row.content, ...row.usage, ...row.fixed });

test("every attribute is one of OpenTelemetry 1.40.0's, or begins with openclaw.", () => {
  assert.equal(SEMCONV, "1.40.0");
  const used = new Set([...rows.flatMap(([, , row]) => names(row)), ...Object.keys(USAGE)]);
  const standard = [...used].filter((name) => !name.startsWith("openclaw.")).sort();
  assert.deepEqual(standard, [
    "error.type",
    "gen_ai.agent.id",
    "gen_ai.operation.name",
    "gen_ai.output.messages",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.id",
    "gen_ai.tool.call.result",
    "gen_ai.tool.name",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
  ]);
});

test("no row reads the configuration, a session entry or a patch", () => {
  const paths = rows.flatMap(([, , row]) => [
    ...Object.values({ ...row.attributes, ...row.content, ...row.usage }).map(([path]) => path),
    ...(row.key ?? []),
    ...(row.status ?? []),
    row.session ?? "",
    row.failed ?? "",
  ]);
  assert.deepEqual(
    paths.filter((path) => /cfg|config|entry|patch|senderId|from\b|metadata/i.test(path)),
    [],
  );
});

/** An object that answers every path with the secret, at any depth, and looks like a plain object. */
function planted(secret: unknown, depth = 0): Record<string, unknown> {
  const keys = new Set(
    rows.flatMap(([, , row]) =>
      [
        ...Object.values({ ...row.attributes, ...row.content, ...row.usage }).map(([path]) => path),
        ...(row.key ?? []),
      ]
        .flatMap((path) => path.split("|"))
        .flatMap((path) => path.split(".")),
    ),
  );
  for (const more of ["cfg", "token", "apiKey", "from", "senderId", "metadata", "body", "sessionEntry"])
    keys.add(more);
  const deep = new Set(["cfg", "usage", "trace", "metadata", "sessionEntry", "event", "ctx"]);
  return Object.fromEntries(
    [...keys].map((key) => [key, depth < 2 && deep.has(key) ? planted(secret, depth + 1) : secret]),
  );
}

for (const content of [false, true]) {
  test(`a secret in every field of every event never appears${content ? ", even with content" : ""}`, () => {
    const secrets = [
      "sk-planted-0123456789abcdef",
      "123456789:AAplantedplantedplantedplantedplantedpl",
      'zq9 "planted" \\ words!',
    ];
    for (const secret of secrets) {
      const known = secret.includes(" ") ? [secret] : []; // the others are recognized by their shape
      const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt"), known), {
        content,
        plainSessions: false,
      });
      let out = "";
      for (const [half, name] of rows) {
        out += JSON.stringify(tracer.handle(half, name, { event: planted(secret), ctx: planted(secret) }));
      }
      out += JSON.stringify(tracer.close());
      assert.ok(out.length > 1000);
      for (const form of [
        secret,
        JSON.stringify(secret).slice(1, -1),
        JSON.stringify(JSON.stringify(secret)).slice(3, -3),
      ]) {
        assert.equal(out.includes(form), false, form);
      }
    }
  });
}

test("a secret inside an argument is redacted before JSON escapes it", () => {
  const secret = 'zq9 "planted" words';
  const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt"), [secret]), {
    content: true,
    plainSessions: false,
  });
  const event = { toolName: "exec", toolCallId: "c", params: { command: `echo ${secret}` } };
  const [, start] = tracer.handle("plugin", "before_tool_call", { event, ctx: { runId: "r" } });
  const attributes = start!.payload.attributes as Record<string, unknown>;
  assert.equal(attributes["gen_ai.tool.call.arguments"], '{"command":"echo [redacted]"}');
});

test("message texts, senders, arguments, results and error texts are sent only with content", () => {
  const run = (content: boolean): string => {
    const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt")), {
      content,
      plainSessions: false,
    });
    const out = [
      tracer.handle("plugin", "message_received", {
        event: { content: "TEXT", from: "FROM", metadata: { senderName: "SENDER" } },
        ctx: { sessionKey: "KEY" },
      }),
      tracer.handle("plugin", "before_tool_call", {
        event: { toolName: "exec", toolCallId: "c1", params: { command: "ARGUMENT" } },
        ctx: { runId: "r", sessionKey: "KEY" },
      }),
      tracer.handle("plugin", "after_tool_call", {
        event: { toolName: "exec", toolCallId: "c1", error: "ERRORTEXT", result: ["RESULT"] },
        ctx: { runId: "r", sessionKey: "KEY" },
      }),
    ];
    return JSON.stringify(out);
  };
  for (const word of ["TEXT", "FROM", "SENDER", "ARGUMENT", "ERRORTEXT", "RESULT", "KEY"])
    assert.ok(!run(false).includes(`"${word}`), word);
  for (const word of ["TEXT", "ARGUMENT", "ERRORTEXT", "RESULT"]) assert.ok(run(true).includes(word), word);
  for (const word of ["FROM", "SENDER", '"KEY']) assert.ok(!run(true).includes(word), word);
});

test("a value that is no name, such as a sentence in a tool's name, is redacted", () => {
  const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt")), {
    content: false,
    plainSessions: false,
  });
  const out = tracer.handle("plugin", "before_tool_call", {
    event: { toolName: "rm -rf /; a sentence", toolCallId: "x" },
    ctx: { runId: "r" },
  });
  assert.equal((out.at(-1)!.payload.attributes as Record<string, unknown>)["gen_ai.tool.name"], "[redacted]");
});

test("the id of a tool call in OpenAI's Responses API, which is two ids in one, is sent", () => {
  const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt")), {
    content: false,
    plainSessions: false,
  });
  const toolCallId = `call_${"x".repeat(24)}|fc_${"0".repeat(61)}`;
  const out = tracer.handle("plugin", "before_tool_call", {
    event: { toolName: "exec", toolCallId },
    ctx: { runId: "r" },
  });
  assert.equal((out.at(-1)!.payload.attributes as Record<string, unknown>)["gen_ai.tool.call.id"], toolCallId);
});

test("every event of the table becomes one of agentmon's types, and names that are not in it become nothing", () => {
  const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt")), {
    content: false,
    plainSessions: false,
  });
  const types = new Set<string>();
  for (const [half, name] of rows) {
    for (const entry of tracer.handle(half, name, {
      event: { sessionKey: "s", runId: "r", messageId: name },
      ctx: {},
    }))
      types.add(entry.type);
  }
  for (const type of types) assert.ok((TYPES as readonly string[]).includes(type), type);
  for (const name of ["constructor", "__proto__", "toString", "command:unheard-of"])
    assert.deepEqual(tracer.handle("hook", name, { event: {}, ctx: {} }), []);
});

test("a huge tool result with content costs a bounded amount", () => {
  const tracer = new Tracer(new Clock(), new Cleaner(Buffer.from("salt")), {
    content: true,
    plainSessions: false,
  });
  const result = Array.from({ length: 1000 }, () => "x".repeat(10_000));
  const out = tracer.handle("plugin", "after_tool_call", {
    event: { toolName: "t", toolCallId: "1", result },
    ctx: { runId: "r" },
  });
  assert.ok(JSON.stringify(out).length < 50_000);
});

test("of two known secrets, the one that contains the other is replaced whole", () => {
  const cleaner = new Cleaner(Buffer.from("salt"), ["client7", "client7:planted"]);
  assert.equal(cleaner.redact("user client7:planted, client7"), "user [redacted], [redacted]");
});

const said = (value: unknown): string => {
  const row: Row = { act: "occurrence", name: "x", attributes: {}, content: { text: ["event.value", "text"] } };
  const cleaner = new Cleaner(Buffer.from("salt"));
  return cleaner.attributes(row, { event: { value }, ctx: {} }, true).text as string;
};

test("a text that is cut inside a character, or came cut, is still Unicode", () => {
  for (const text of [`${"x".repeat(16_383)}🦞`, "half \ud83e"]) assert.ok(said(text).isWellFormed());
});

test("of a long text inside a result, the beginning is sent", () => {
  const text = said({ content: [{ type: "text", text: "x".repeat(100_000) }, { type: "text", text: "y" }] });
  assert.equal(text, `{"content":[{"type":"text","text":"${"x".repeat(16_349)}`);
});

test("binary data becomes its size, wherever it stands", () => {
  const raw = Buffer.alloc(1_000);
  raw.toJSON = () => assert.fail("read byte by byte");
  assert.equal(said(raw), "[1000 bytes]");
  const result = { out: raw, list: [new Float64Array(2), "x"], deep: { view: new DataView(new ArrayBuffer(3)) } };
  assert.equal(
    said(result),
    '{"out":"[1000 bytes]","list":["[16 bytes]","x"],"deep":{"view":"[3 bytes]"}}',
  );
});

test("no content takes long to clean, whatever it looks like", () => {
  const times = [1, 2, 3].map(() => {
    const start = performance.now();
    said("eyJ-aaaa-".repeat(4000));
    return performance.now() - start;
  });
  assert.ok(Math.min(...times) < 400, `${times} ms`);
  let visited = 0;
  said([Array(1_000_000).fill({ toJSON: () => (visited += 1) })]);
  assert.ok(visited < 50_000, `${visited} values of an array`);
});
