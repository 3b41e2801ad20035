// One request over HTTP. Node's http, since a fetch leaves so much garbage that sending a full spool would cost the
// gateway more than 100 MB.

import { Agent, request } from "node:http";
import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http";
import { Agent as SecureAgent, request as secureRequest } from "node:https";

export interface Reply {
  status: number;
  /** The header of this name, if it is there. */
  retryAfter: string | undefined;
}

const BODY = 64 * 1024; // bytes of an answer that are read; its text is not used
const KEEP = { keepAlive: true, maxSockets: 1 };
const agents = { http: new Agent(KEEP), https: new SecureAgent(KEEP) };

export interface Exchange {
  /** Rejects without an answer, or if the exchange was ended. */
  reply: Promise<Reply>;
  end(): void;
}

/** Send a request, read the answer to its end, and follow no redirection. */
export function post(url: string, headers: Record<string, string>, body: string): Exchange {
  let sent: ClientRequest | undefined;
  const reply = new Promise<Reply>((resolve, reject) => {
    const options: RequestOptions = {
      method: "POST",
      headers: { ...headers, "content-length": Buffer.byteLength(body) },
    };
    const answered = (answer: IncomingMessage): void => {
      const reply = { status: answer.statusCode ?? 0, retryAfter: answer.headers["retry-after"] };
      let left = BODY;
      answer.on("data", (part: Buffer) => {
        left -= part.length;
        if (left >= 0) return;
        resolve(reply);
        answer.destroy(); // the rest would cost more than another connection
      });
      answer.on("end", () => resolve(reply));
      answer.on("error", reject);
      answer.on("close", () => reject(new Error("the connection was closed"))); // ignored after an end
    };
    sent = url.startsWith("https:")
      ? secureRequest(url, { ...options, agent: agents.https }, answered)
      : request(url, { ...options, agent: agents.http }, answered);
    sent.on("error", reject);
    sent.end(body);
  });
  return { reply, end: () => void sent?.destroy(new Error("the exchange was ended")) };
}
