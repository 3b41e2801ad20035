// The plugin half: what only plugins see, such as model calls, token counts, tools and subagents.

import { accept, emitter } from "../lib/emitter.ts";
import { PLUGIN_EVENTS } from "../lib/mapping.ts";

interface Api {
  on(name: string, handler: (event: unknown, ctx: unknown) => Promise<void> | void): void;
}

export default {
  id: "agentmon",
  name: "agentmon",
  description: "Forward agent events to an agentmon ingest endpoint",
  register(api: Api): void {
    for (const name of Object.keys(PLUGIN_EVENTS)) {
      api.on(name, (event, ctx) => {
        try {
          accept("plugin", name, { event, ctx });
          if (name === "gateway_stop") return emitter()?.flush();
        } catch {
          // Nothing that goes wrong here may reach the agent.
        }
      });
    }
  },
};
