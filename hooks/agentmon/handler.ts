// The HOOK.md half: gateway, session, command, message and bootstrap events.

import { accept, emitter } from "./lib/emitter.ts";

interface HookEvent {
  type: string;
  action: string;
  sessionKey?: string;
  context?: unknown;
}

/** Take an event. Only the end of the gateway waits, for a bounded time, until the events are delivered. */
export default function handler(event: HookEvent): Promise<void> | void {
  try {
    const name = `${event.type}:${event.action}`;
    accept("hook", name, { event: event.context, ctx: { sessionKey: event.sessionKey } });
    if (name === "gateway:shutdown" || name === "gateway:pre-restart") return emitter()?.flush();
  } catch {
    // An exception here would only reach the gateway's log, an unhandled rejection would end the gateway.
  }
}
