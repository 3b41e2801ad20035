import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { post } from "../../hooks/agentmon/lib/post.ts";
import { parse } from "../../hooks/agentmon/lib/reply.ts";
import type { Reply } from "../../hooks/agentmon/lib/reply.ts";

interface Server {
  url: string;
  connections: number;
  /** The requests that arrived, each as its bytes. */
  requests: string[];
}

/** A server that answers each request with what `answer` writes. */
async function serve(t: TestContext, answer: (socket: Socket) => void, host = "127.0.0.1"): Promise<Server> {
  const server: Server = { url: "", connections: 0, requests: [] };
  const sockets = new Set<Socket>();
  const listening = createServer((socket) => {
    server.connections += 1;
    sockets.add(socket);
    let text = "";
    socket.on("error", () => undefined);
    socket.on("data", (part) => {
      text += part.toString("latin1");
      const length = Number(/content-length: (\d+)/.exec(text)?.[1]);
      if (text.length < text.indexOf("\r\n\r\n") + 4 + length) return;
      server.requests.push(text);
      text = "";
      answer(socket);
    });
  }).listen(0, host);
  await once(listening, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listening.close();
  });
  const name = host.includes(":") ? `[${host}]` : host;
  server.url = `http://${name}:${(listening.address() as AddressInfo).port}/v1/events?a=b`;
  return server;
}

function send(server: Server, body = "{}", signal = AbortSignal.timeout(10_000)): Promise<Reply> {
  return post(server.url, { headers: { "x-token": "t" }, body, signal });
}

// Each answer with the status that it means.
const WHOLE: [string, number][] = [
  ["HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", 202],
  ["HTTP/1.1 204\r\n\r\n", 204],
  ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 200],
  ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-sum: 1\r\n\r\n", 200],
  [
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" +
      "HTTP/1.1 422 No\r\ncontent-length:0\r\n\r\n",
    422,
  ],
];

for (const [answer, status] of WHOLE) {
  test(`an answer is read to its end wherever it is cut: ${JSON.stringify(answer.slice(0, 40))}`, () => {
    for (let cut = 1; cut < answer.length; cut++) assert.equal(parse(answer.slice(0, cut)), undefined, `${cut}`);
    assert.deepEqual(parse(answer), { reply: { status, retryAfter: undefined }, reusable: true });
    assert.equal(parse(`${answer}x`)?.reusable, false);
  });
}

test("answers that leave the connection open share one", async (t) => {
  const answers = WHOLE.map(([answer]) => answer);
  const server = await serve(t, (socket) => socket.write(answers.shift()!));
  for (const [, status] of WHOLE) assert.equal((await send(server)).status, status);
  assert.equal(server.connections, 1);
});

for (const answer of [
  "HTTP/1.1 202 Accepted\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n",
  "HTTP/1.0 202 Accepted\r\ncontent-length: 0\r\n\r\n",
  "HTTP/1.1 202 Accepted\r\n\r\nas much as the server likes",
  "HTTP/1.1 202 Accepted\r\ncontent-length: 99999999\r\n\r\n",
  "HTTP/1.1 202 Accepted\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
  "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n",
  "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\nHTTP/1.1 500 A second answer\r\n\r\n",
]) {
  test(`after such an answer, the next request has a new connection: ${JSON.stringify(answer)}`, async (t) => {
    const server = await serve(t, (socket) => socket.write(answer));
    assert.equal((await send(server)).status, 202);
    assert.equal((await send(server)).status, 202);
    assert.equal(server.connections, 2);
  });
}

for (const answer of [
  "SSH-2.0-OpenSSH_9.2\r\n\r\n",
  "HTTP/2 200\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
  "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabcd",
  `HTTP/1.1 200 OK\r\nx: ${"y".repeat(20_000)}`,
]) {
  const shown = JSON.stringify(answer.slice(0, 60));
  test(`what is no answer is an error, and the next request is not harmed: ${shown}`, async (t) => {
    const answers = [answer, WHOLE[0]![0]];
    const server = await serve(t, (socket) => socket.write(answers.shift()!));
    await assert.rejects(send(server));
    assert.equal((await send(server)).status, 202);
  });
}

test("a server that hangs up is an error, and so is one that says nothing within the time", async (t) => {
  const server = await serve(t, (socket) => void (server.requests.length === 1 && socket.destroy()));
  await assert.rejects(send(server), /closed|ECONNRESET/);
  await assert.rejects(send(server, "{}", AbortSignal.timeout(50)), /ended/);
  await assert.rejects(send(server, "{}", AbortSignal.abort()), /ended/);
  assert.equal(server.requests.length, 2);
});

test("a connection that the server closes in between is not used again", async (t) => {
  const server = await serve(t, (socket) => socket.end(WHOLE[0]![0]));
  for (let count = 1; count <= 3; count++) {
    assert.equal((await send(server)).status, 202);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(server.connections, count);
  }
});

test("a request has the path with its query, the headers, and the length of its body in bytes", async (t) => {
  const server = await serve(t, (socket) => socket.write(WHOLE[0]![0]), "::1");
  await send(server, '{"text":"größer 🦞"}');
  const [request] = server.requests;
  const host = new URL(server.url).host;
  const body = Buffer.from('{"text":"größer 🦞"}').toString("latin1");
  assert.equal(
    request,
    `POST /v1/events?a=b HTTP/1.1\r\nhost: ${host}\r\nx-token: t\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
});

test("a header's value may hold bytes beyond ASCII, and headers may change between two requests", async (t) => {
  const server = await serve(t, (socket) => socket.write(WHOLE[0]![0]));
  for (const value of ["caf\u00e9", "tea"]) {
    const posting = { headers: { "x-token": value }, body: "{\"a\":\"\u00fc\"}", signal: AbortSignal.timeout(10_000) };
    await post(server.url, posting);
  }
  assert.equal(server.connections, 1);
  const found = server.requests.map((request) => /x-token: (.*)\r/.exec(request)?.[1]);
  assert.deepEqual(found, ["caf\u00e9", "tea"]);
  assert.ok(server.requests.every((request) => request.endsWith('\r\n\r\n{"a":"\u00c3\u00bc"}')));
});

test("Retry-After is passed on without the white space around it", () => {
  const found = parse("HTTP/1.1 503 Busy\r\nRETRY-AFTER: \t120 \r\ncontent-length: 0\r\n\r\n");
  assert.deepEqual(found?.reply, { status: 503, retryAfter: "120" });
});

test("a head costs no more than its size, whatever is in it", () => {
  for (const name of ["retry-after", "transfer-encoding"]) {
    const start = performance.now();
    parse(`HTTP/1.1 202 Accepted\r\n${name}: a${" ".repeat(16_000)}b\r\n\r\n`);
    const took = performance.now() - start;
    assert.ok(took < 500, `${took} ms`);
  }
});

test("answers before the answer proper count as a part of its head, so they end", () => {
  assert.throws(() => parse(`HTTP/1.1 103 Early Hints\r\nx: ${"y".repeat(1_000)}\r\n\r\n`.repeat(20)), /too long/);
});
