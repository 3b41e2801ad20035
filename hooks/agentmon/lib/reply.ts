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
const RETRY = /^retry-after:[ \t]*([^\r\n]*?)[ \t]*$/im;
const LENGTH = /^content-length:[ \t]*(\d{1,15})[ \t]*$/im;
const CODING = /^transfer-encoding:[ \t]*([^\r\n]*?)[ \t]*$/im;
const CLOSE = /^connection:[^\r\n]*\bclose\b/im;
const CHUNK = /([0-9a-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n/iy;

/**
 * Return the answer that `text` begins with (one character a byte), or undefined while more of it is needed.
 * Throws if it is not HTTP/1, or its head is too long. Of a body that is too long, or that only ends with the
 * connection, the rest is not waited for.
 */
export function parse(text: string): Parsed | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0 ? text.length > HEAD : end > HEAD) throw new Error("the head of the answer is too long");
  if (end < 0) return undefined;
  const head = text.slice(0, end).replaceAll("\r\n", "\n");
  const [, minor, code] = STATUS.exec(head) ?? [];
  const status = Number(code);
  if (!code || status === 101) throw new Error("the answer is not one of HTTP/1");
  if (status < 200) return parse(text.slice(end + 4)); // such as 103, before the answer proper
  const reply = { status, retryAfter: RETRY.exec(head)?.[1] || undefined };
  const bytes = extent(head, status, text, end + 4);
  if (bytes === undefined && text.length < end + 4 + BODY) return undefined;
  return { reply, reusable: bytes === text.length && minor === "1" && !CLOSE.test(head) };
}

/** Return where the body from `at` on ends, -1 if that is with the connection, or undefined if more is needed. */
function extent(head: string, status: number, text: string, at: number): number | undefined {
  if (status === 204 || status === 304) return at;
  const coding = CODING.exec(head)?.[1];
  if (coding !== undefined) return coding.toLowerCase() === "chunked" ? chunked(text, at) : -1;
  const length = LENGTH.exec(head)?.[1];
  if (length === undefined || Number(length) > BODY) return -1;
  return text.length < at + Number(length) ? undefined : at + Number(length);
}

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
