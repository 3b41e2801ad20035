// One POST by node:http(s). Node's fetch leaves 30 KB of garbage for each request: 150 MB while a spool is sent.

import { Agent as Plain, request as plain } from "node:http";
import { Agent as Secure, request as secure } from "node:https";
import type { IncomingMessage } from "node:http";

/** What of an answer matters. Its text does not. */
export interface Reply {
  status: number;
  retryAfter: string | undefined;
}

export interface Posting {
  headers: Record<string, string>;
  body: string;
  /** Ends the request, whatever it waits for. */
  signal: AbortSignal;
}

const BODY = 64 * 1024; // bytes of an answer that are read, so that its connection can be used again
const KEEP = { keepAlive: true, maxSockets: 1, maxFreeSockets: 1 };

let agents: { plain: Plain; secure: Secure } | undefined;

/** Send a body. Resolves to the answer; redirects are not followed. Rejects with the error of the connection. */
export function post(url: string, { headers, body, signal }: Posting): Promise<Reply> {
  agents ??= { plain: new Plain(KEEP), secure: new Secure(KEEP) };
  const https = url.startsWith("https:");
  const data = Buffer.from(body);
  const options = {
    method: "POST",
    headers: { ...headers, "content-length": String(data.length) },
    agent: https ? agents.secure : agents.plain,
    signal,
  };
  return new Promise((resolve, reject) => {
    const request = (https ? secure : plain)(url, options, (answer) => {
      read(answer).then(resolve, reject);
    });
    request.on("error", reject);
    request.end(data);
  });
}

/** Read an answer to its end, but not more than a little. */
function read(answer: IncomingMessage): Promise<Reply> {
  const reply = { status: answer.statusCode ?? 0, retryAfter: answer.headers["retry-after"] };
  return new Promise((resolve, reject) => {
    let left = BODY;
    answer.on("data", (part: Buffer) => {
      left -= part.length;
      if (left > 0) return;
      resolve(reply);
      answer.destroy();
    });
    answer.on("end", () => resolve(reply));
    answer.on("error", reject);
    answer.on("close", () => reject(new Error("the connection was closed")));
  });
}
