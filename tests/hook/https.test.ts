import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { folder } from "./support.ts";

/** Make a CA, and a certificate of it for 127.0.0.1. */
function certificates(path: string): { ca: string; key: Buffer; cert: Buffer } {
  const openssl = (...words: string[]): void => void execFileSync("openssl", words, { cwd: path, stdio: "pipe" });
  const made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  openssl("req", "-x509", ...made, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=a private CA");
  openssl(
    ...["req", "-x509", ...made, "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=agentmon"],
    ...["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  );
  const read = (name: string): Buffer => readFileSync(join(path, name));
  return { ca: join(path, "ca.pem"), key: read("key.pem"), cert: read("cert.pem") };
}

/** Return what a process of the hook delivered to an https endpoint, and what it logged. */
async function deliver(t: TestContext, trusted: boolean): Promise<{ bodies: string[]; log: string }> {
  const path = folder(t);
  const { ca, key, cert } = certificates(path);
  const bodies: string[] = [];
  const server = createServer({ key, cert }, (request, response) => {
    let body = "";
    request.on("data", (part) => (body += part)).on("end", () => {
      bodies.push(body);
      response.writeHead(202).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close().closeAllConnections());
  const child = spawn(process.execPath, [join(import.meta.dirname, "once.ts")], {
    env: {
      ...process.env,
      OPENCLAW_STATE_DIR: path,
      AGENTMON_INGEST_URL: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      ...(trusted ? { NODE_EXTRA_CA_CERTS: ca } : {}),
    },
    stdio: ["ignore", "inherit", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (part) => (log += part));
  await once(child, "close");
  return { bodies, log };
}

test("an https endpoint of a private CA gets the events if NODE_EXTRA_CA_CERTS names the CA", async (t) => {
  const { bodies, log } = await deliver(t, true);
  assert.ok(bodies.some((body) => JSON.parse(body).payload.name === "gateway.startup"));
  assert.equal(log, "");
});

test("an https endpoint whose certificate is not trusted gets nothing, and that is said", async (t) => {
  const { bodies, log } = await deliver(t, false);
  assert.deepEqual(bodies, []);
  assert.match(log, /does not accept events \(no answer: UNABLE_TO_VERIFY_LEAF_SIGNATURE\)/);
});
