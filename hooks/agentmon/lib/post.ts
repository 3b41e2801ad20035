// One POST over a connection that is kept. Node's own clients leave 16 to 30 KB of garbage for each request, by which
// the gateway grew by 140 MB while it sent a full spool. This one leaves 2 KB.

import { connect as plain, isIP } from "node:net";
import type { Socket } from "node:net";
import { connect as secure } from "node:tls";
import { parse } from "./reply.ts";
import type { Reply } from "./reply.ts";

export interface Posting {
  /** Names and values without line breaks: config.ts has checked them. */
  headers: Record<string, string>;
  body: string;
  /** Ends the request, whatever it waits for. */
  signal: AbortSignal;
}

const ASCII = /^[\x00-\x7f]*$/;

let kept: Connection | undefined;

/** Send a body. Resolves to the answer; redirects are not followed. Rejects with the error of the connection. */
export function post(url: string, posting: Posting): Promise<Reply> {
  if (!kept?.free || kept.url !== url) {
    kept?.retire();
    kept = new Connection(url);
  }
  return kept.post(posting);
}

/** A connection to one URL. It answers one request after another, and does not keep a process alive between them. */
class Connection {
  readonly url: string;
  readonly #start: string;
  readonly #socket: Socket;
  #text = "";
  #head = "";
  #headers: Record<string, string> | undefined;
  #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.#fail(new Error("the request was ended"));
  /** Ends the request that is under way. */
  #end: ((error: Error | undefined, reply?: Reply) => void) | undefined;
  #over = false;

  constructor(url: string) {
    this.url = url;
    const { protocol, hostname, port, host, pathname, search } = new URL(url);
    this.#start = `POST ${pathname}${search} HTTP/1.1\r\nhost: ${host}\r\n`;
    const name = hostname.replace(/^\[|\]$/g, "");
    const https = protocol === "https:";
    const to = { host: name, port: Number(port) || (https ? 443 : 80) };
    this.#socket = https ? secure({ ...to, ...(isIP(name) ? {} : { servername: name }) }) : plain(to);
    this.#socket.setNoDelay(true);
    this.#socket.on("data", (part: Buffer) => this.#take(part));
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", () => this.#fail(new Error("the connection was closed")));
  }

  /** Whether it can take a request now. */
  get free(): boolean {
    return !this.#over && this.#end === undefined;
  }

  post({ headers, body, signal }: Posting): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#end = (error, reply) => {
        this.#end = undefined;
        this.#socket.unref();
        if (reply) resolve(reply);
        else reject(error!);
      };
      this.#text = "";
      if (signal !== this.#signal) {
        // Many requests have the same signal, and a listener takes more memory than a request.
        this.#signal?.removeEventListener("abort", this.#abort);
        this.#signal = signal;
        signal.addEventListener("abort", this.#abort);
      }
      if (signal.aborted) return this.#abort();
      this.#socket.ref();
      this.#send(headers, body);
    });
  }

  /** Close it, as soon as the request that is under way is over. */
  retire(): void {
    if (this.free) this.#close();
    else this.#over = true;
  }

  #send(headers: Record<string, string>, body: string): void {
    if (headers !== this.#headers) {
      this.#headers = headers;
      this.#head = this.#start;
      for (const name in headers) this.#head += `${name}: ${headers[name]}\r\n`;
    }
    const head = `${this.#head}content-length: ${Buffer.byteLength(body)}\r\n\r\n`;
    if (ASCII.test(this.#head)) {
      this.#socket.write(head + body, "utf8");
      return;
    }
    this.#socket.cork();
    this.#socket.write(head, "latin1");
    this.#socket.write(body, "utf8");
    this.#socket.uncork();
  }

  #take(part: Buffer): void {
    if (!this.#end) return this.#close(); // nothing was asked
    this.#text += part.latin1Slice();
    try {
      const found = parse(this.#text);
      if (!found) return;
      if (!found.reusable || this.#over) this.#close();
      this.#end(undefined, found.reply);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    this.#close();
    this.#end?.(error);
  }

  #close(): void {
    this.#over = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#socket.destroy();
  }
}
