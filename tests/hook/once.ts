// A process that takes one event as the gateway does, ends, and delivers what it can.

import handler from "../../hooks/agentmon/handler.ts";

handler({ type: "gateway", action: "startup", sessionKey: "gateway:startup" });
await handler({ type: "gateway", action: "shutdown", sessionKey: "gateway:shutdown" });
