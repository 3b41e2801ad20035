// The naive hook that bench/hook.py compares with: it waits for the endpoint at each event.

interface HookEvent {
  type: string;
  action: string;
  sessionKey?: string;
}

export default async function handler(event: HookEvent): Promise<void> {
  const body = {
    schema: { name: "agentmon.event", version: 1 },
    event: {
      id: crypto.randomUUID(),
      type: "metric.snapshot",
      ts: new Date().toISOString(),
      source: { framework: "openclaw", client_id: "bench", host: "bench" },
    },
    payload: { name: `${event.type}:${event.action}`, session: event.sessionKey },
  };
  await fetch(`${process.env.AGENTMON_INGEST_URL}/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}
