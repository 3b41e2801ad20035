// Reads an HTTP/1.1 answer: its status, one header, and where it ends, so that the next request can follow.

/** What of an answer matters. Its text does not. */
export interface Reply {
  status: number;
  retryAfter: string | undefined;
}

export interface Parsed {
  reply: Reply;
  /** Whether the answer is complete, and the connection stays open for another request. */
  reusable: boolean;
}

const HEAD = 16 * 1024; // bytes of a status line and headers
const BODY = 64 * 1024; // bytes of a body that are read, so that its connection can be used again

const STATUS = /^HTTP\/1\.([01]) ([1-9]\d\d)(?=[ \n]|$)/;
// Values are trimmed later: a pattern that also trims them takes seconds for 16 KB of spaces.
const RETRY = /^retry-after:([^\r\n]*)$/im;
const LENGTH = /^content-length:[ \t]*(\d{1,15})[ \t]*$/im;
const CODING = /^transfer-encoding:([^\r\n]*)$/im;
const CLOSE = /^connection:[^\r\n]*\bclose\b/im;
const CHUNK = /([0-9a-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n/iy;

/** What the head of an answer says. */
interface Head {
  reply: Reply;
  /** Bytes of the body, CHUNKED, or UNTIL_CLOSE. */
  length: number;
  /** Whether the server keeps the connection open. */
  open: boolean;
}

const CHUNKED = -1;
const UNTIL_CLOSE = -2;

// The heads of a server's answers are mostly the same, and reading one costs more memory than sending a request.
let latest: { text: string; head: Head } | undefined;

/**
 * Return the answer that `text` begins with (one character a byte), or undefined while more of it is needed.
 * Throws if it is not HTTP/1, or its head is too long. Of a body that is too long, or that only ends with the
 * connection, the rest is not waited for.
 */
export function parse(text: string): Parsed | undefined {
  if (latest && text.startsWith(latest.text)) return whole(latest.head, text, latest.text.length);
  for (let start = 0; ; ) {
    const end = text.indexOf("\r\n\r\n", start);
    if ((end < 0 ? text.length : end) > HEAD) throw new Error("the head of the answer is too long");
    if (end < 0) return undefined;
    const head = read(text.slice(start, end).replaceAll("\r\n", "\n"));
    start = end + 4;
    if (head.reply.status < 200) continue; // such as 103, before the answer proper
    latest = { text: text.slice(0, start), head };
    return whole(head, text, start);
  }
}

function read(text: string): Head {
  const [, minor, code] = STATUS.exec(text) ?? [];
  const status = Number(code);
  if (!code || status === 101) throw new Error("the answer is not one of HTTP/1");
  return {
    reply: { status, retryAfter: RETRY.exec(text)?.[1]?.trim() || undefined },
    length: length(text, status),
    open: minor === "1" && !CLOSE.test(text),
  };
}

function length(head: string, status: number): number {
  if (status === 204 || status === 304) return 0;
  const coding = CODING.exec(head)?.[1]?.trim();
  if (coding !== undefined) return coding.toLowerCase() === "chunked" ? CHUNKED : UNTIL_CLOSE;
  const stated = LENGTH.exec(head)?.[1];
  return stated === undefined || Number(stated) > BODY ? UNTIL_CLOSE : Number(stated);
}

/** Return the answer with this head, whose body starts at `at`, or undefined while more of it is needed. */
function whole(head: Head, text: string, at: number): Parsed | undefined {
  const end = head.length === CHUNKED ? chunked(text, at) : head.length === UNTIL_CLOSE ? -1 : at + head.length;
  const missing = end === undefined || end > text.length;
  if (missing && text.length < at + BODY) return undefined;
  return { reply: head.reply, reusable: head.open && end === text.length };
}

/** Return where a chunked body ends, -1 if it is too long to be waited for, or undefined while more is needed. */
function chunked(text: string, start: number): number | undefined {
  for (let at = start; ; ) {
    CHUNK.lastIndex = at;
    const size = CHUNK.exec(text);
    if (!size) {
      if (text.indexOf("\n", at) < 0 && text.length - at < HEAD) return undefined;
      throw new Error("a chunk of the answer is malformed");
    }
    const data = CHUNK.lastIndex;
    if (Number.parseInt(size[1]!, 16) === 0) return trailers(text, data);
    at = data + Number.parseInt(size[1]!, 16) + 2;
    if (at - start > BODY) return -1;
    if (text.length < at) return undefined;
    if (text.slice(at - 2, at) !== "\r\n") throw new Error("a chunk of the answer is malformed");
  }
}

function trailers(text: string, at: number): number | undefined {
  if (text.startsWith("\r\n", at)) return at + 2;
  const end = text.indexOf("\r\n\r\n", at);
  return end < 0 ? undefined : end + 4;
}
