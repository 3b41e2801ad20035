import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { delay, judge, retryAfter } from "../../hooks/agentmon/lib/answers.ts";
import type { Config } from "../../hooks/agentmon/lib/config.ts";
import { Sender } from "../../hooks/agentmon/lib/sender.ts";
import { Clock, Endpoint, settings, until } from "./support.ts";

/** A queue in memory that keeps what is not acknowledged, as the spool does. */
class Queue {
  events: string[];
  constructor(count: number) {
    this.events = Array.from({ length: count }, (_, n) => JSON.stringify({ n }));
  }
  async peek(limit: number): Promise<string[]> {
    return this.events.slice(0, limit);
  }
  async ack(count: number): Promise<void> {
    this.events.splice(0, count);
  }
}

function begin(t: TestContext, url: string, count: number, more: Partial<Config> = {}) {
  const clock = new Clock();
  const queue = new Queue(count);
  const sender = new Sender(settings(url, "/nowhere", more), queue, clock);
  t.after(() => sender.stop());
  sender.start();
  return { clock, queue, sender };
}
/** For tests that move the clock while a request is under way: a timeout would repeat the request. */
const NEVER: Partial<Config> = { timeout: 1e12 };
const numbers = (endpoint: Endpoint): number[] => endpoint.events.map(({ n }) => n);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

for (const batch of ["single", "array", "ndjson"] as const) {
  test(`events arrive in order as ${batch}, and are removed after a 2xx`, async (t) => {
    const endpoint = await new Endpoint().start(t);
    const { queue, sender } = begin(t, endpoint.url, 25, { batch, headers: { authorization: "Bearer t" } });
    await until(() => queue.events.length === 0, "delivery");
    assert.deepEqual(numbers(endpoint), upTo(25));
    assert.equal(endpoint.requests.length, batch === "single" ? 25 : 3);
    const [first] = endpoint.requests;
    assert.equal(first?.path, "/v1/events");
    assert.equal(first?.headers.authorization, "Bearer t");
    assert.equal(
      first?.headers["content-type"],
      batch === "ndjson" ? "application/x-ndjson" : "application/json",
    );
    assert.equal(sender.counts.sent, 25);
  });
}

for (const status of [400, 422]) {
  test(`${status} refuses: the one bad event of a batch is found by halving, counted and not repeated`, async (t) => {
    const endpoint = await new Endpoint((body) => (body.includes('"n":6}') ? status : 200)).start(t);
    const { clock, queue, sender } = begin(t, endpoint.url, 20, { batch: "array" });
    await until(() => queue.events.length === 0, "delivery");
    assert.deepEqual(
      numbers(endpoint),
      upTo(20).filter((n) => n !== 6),
    );
    assert.deepEqual([sender.counts.sent, sender.counts.refused], [19, 1]);
    assert.equal(endpoint.requests.filter(({ body }) => body === '[{"n":6}]').length, 1);
    assert.equal(clock.warnings.length, 1);
  });
}

test("413 splits until it fits, and an event that is too large alone is refused", async (t) => {
  const endpoint = await new Endpoint((body) =>
    body.length > 30 || body.includes('"n":11}') ? 413 : 200,
  ).start(t);
  const { queue, sender } = begin(t, endpoint.url, 20, { batch: "array" });
  await until(() => queue.events.length === 0, "delivery");
  assert.deepEqual(
    numbers(endpoint),
    upTo(20).filter((n) => n !== 11),
  );
  assert.equal(sender.counts.refused, 1);
});

for (const status of [401, 403, 404, 405, 301, 302, 307, 308]) {
  test(`${status} is a misconfiguration: said once, kept, repeated slowly, and not followed`, async (t) => {
    const endpoint = await new Endpoint((_, __, response) => {
      response.writeHead(status, { location: "/elsewhere" }).end();
      return undefined;
    }).start(t);
    const { clock, queue } = begin(t, endpoint.url, 3, NEVER);
    for (let attempt = 1; attempt <= 3; attempt++) {
      await until(() => endpoint.requests.length === attempt && clock.next === 300_000, "an attempt");
      clock.pass(299_999);
      assert.equal(endpoint.requests.length, attempt);
      clock.pass(1);
    }
    await until(() => endpoint.requests.length === 4, "an attempt");
    assert.equal(queue.events.length, 3);
    assert.equal(clock.warnings.length, 1);
    assert.match(clock.warnings[0]!, new RegExp(`HTTP ${status}`));
    assert.deepEqual([...new Set(endpoint.requests.map(({ path }) => path))], ["/v1/events"]);
    endpoint.answer = () => 200;
    await until(
      () => queue.events.length === 0,
      "delivery",
      () => clock.pass(300_000),
    );
  });
}

for (const status of [408, 425, 429, 500, 502, 503, 504]) {
  test(`${status} is retried with growing delays, and the order is kept`, async (t) => {
    const endpoint = await new Endpoint(() => status).start(t);
    const { clock, queue, sender } = begin(t, endpoint.url, 3, NEVER);
    for (const wait of [500, 1_000, 2_000, 4_000]) {
      await until(() => clock.next === wait, `a delay of ${wait}`);
      queue.events.push(JSON.stringify({ n: queue.events.length }));
      sender.wake(); // a new event does not cut the delay short
      clock.pass(wait);
    }
    endpoint.answer = () => 200;
    await until(
      () => queue.events.length === 0,
      "delivery",
      () => clock.pass(1_000),
    );
    assert.deepEqual(numbers(endpoint), upTo(7));
    assert.ok(sender.counts.retries >= 4);
    assert.equal(sender.counts.refused, 0);
  });
}

test("Retry-After is honored in seconds and as a date, with a limit", async (t) => {
  const endpoint = await new Endpoint((_, __, response) => {
    response.writeHead(429, { "retry-after": "120" }).end();
    return undefined;
  }).start(t);
  const { clock } = begin(t, endpoint.url, 1);
  await until(() => clock.next === 120_000, "the delay that was asked for");
  assert.equal(retryAfter("Fri, 15 Jan 2027 08:00:30 GMT", 1_800_000_000_000), 30_000);
  assert.equal(retryAfter("soon", 0), undefined);
  assert.equal(delay("retry", 1, 0, 1e12), 3_600_000);
});

test("a Retry-After of nothing, or of the past, does not end the back-off", async (t) => {
  for (const header of ["0", "Thu, 01 Jan 2026 00:00:00 GMT"]) {
    const endpoint = await new Endpoint((_, __, response) => {
      response.writeHead(503, { "retry-after": header }).end();
      return undefined;
    }).start(t);
    const { clock, sender } = begin(t, endpoint.url, 1);
    await until(() => sender.counts.retries === 1, "an attempt");
    await until(() => clock.next === 500, "the delay of a first attempt");
    await sender.stop();
  }
  assert.equal(delay("retry", 8, 0, 0), 60_000);
});

test("connections that are refused or closed are retried until the endpoint is back", async (t) => {
  const endpoint = await new Endpoint((_, request) => {
    request.socket.destroy();
    return undefined;
  }).start(t);
  const { clock, queue } = begin(t, endpoint.url, 5, NEVER);
  await until(
    () => endpoint.requests.length >= 10,
    "attempts",
    () => clock.pass(30_000),
  );
  endpoint.answer = () => 200;
  await until(
    () => queue.events.length === 0,
    "delivery",
    () => clock.pass(30_000),
  );
  assert.deepEqual(numbers(endpoint), upTo(5));
});

test("an answer that does not come in time is retried, and deliveries resume", async (t) => {
  const endpoint = await new Endpoint(() => undefined).start(t);
  const { clock, queue } = begin(t, endpoint.url, 2);
  await until(() => endpoint.requests.length === 1, "the request");
  clock.pass(1_999);
  assert.equal(endpoint.requests.length, 1);
  clock.pass(1); // the timeout
  await until(() => clock.next === 500, "the back-off");
  endpoint.answer = () => 200;
  clock.pass(500);
  await until(() => queue.events.length === 0, "delivery");
  assert.deepEqual(numbers(endpoint), [0, 1]);
});

test("an answer whose body never ends is retried after the timeout", async (t) => {
  const endpoint = await new Endpoint((_, __, response) => {
    response.writeHead(200).write("x");
    return undefined;
  }).start(t);
  const { clock, queue } = begin(t, endpoint.url, 1);
  await until(() => endpoint.requests.length === 1, "the request");
  await until(
    () => clock.next === 500,
    "the back-off",
    () => clock.next === 2_000 && clock.pass(2_000),
  );
  assert.equal(queue.events.length, 1);
});

test("after an hour without an endpoint, everything is delivered in order", async (t) => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const { clock, queue, sender } = begin(t, `http://127.0.0.1:${port}`, 0, NEVER);
  const end = clock.time + 3_600_000;
  let made = 0;
  await until(
    () => clock.time >= end,
    "an hour",
    () => {
      queue.events.push(JSON.stringify({ n: made++ }));
      sender.wake();
      if (sender.counts.retries > 0 && clock.next! >= 500) clock.pass(Math.min(clock.next!, 60_000));
    },
  );
  assert.ok(sender.counts.retries > 50, `${sender.counts.retries}`);
  assert.equal(clock.warnings.length, 1);
  const got: number[] = [];
  const back = createServer((request, response) => {
    request.on("data", (part) => got.push(JSON.parse(part).n)).on("end", () => response.end());
  });
  back.listen(port, "127.0.0.1");
  t.after(() => back.close().closeAllConnections());
  await until(
    () => queue.events.length === 0,
    "delivery",
    () => clock.pass(60_000),
  );
  assert.deepEqual(got, upTo(made));
});

test("a drain ends a back-off, and gives up within its bound", async (t) => {
  const endpoint = await new Endpoint(() => 503).start(t);
  const { clock, queue, sender } = begin(t, endpoint.url, 3, { timeout: 1_700 });
  await until(() => clock.next === 500, "the back-off");
  assert.equal(await sender.drain(60_000), false); // the attempt failed
  endpoint.answer = () => undefined; // hangs
  await until(() => clock.next !== undefined && clock.next <= 1_000, "the back-off");
  const drained = sender.drain(1_500);
  await until(() => endpoint.requests.length === 3, "the attempt");
  clock.pass(1_500);
  assert.equal(await drained, false);
  endpoint.answer = () => 200;
  clock.pass(200); // the timeout of the request that hangs
  await until(() => clock.next === 2_000, "the back-off");
  clock.pass(2_000);
  await until(() => queue.events.length === 0, "delivery");
  assert.equal(await sender.drain(1_000), true);
});

test("each other status keeps the events too", () => {
  for (const status of [402, 406, 409, 410, 415, 418, 431, 451]) assert.equal(judge(status), "misconfigured");
  assert.equal(judge(0), "retry");
  assert.equal(judge(599), "retry");
});
