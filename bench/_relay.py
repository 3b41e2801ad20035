"""A relay that adds a round trip of 20 ms: `python bench/_relay.py ADDRESS PORT=TARGET…`.

It listens on each PORT of ADDRESS and forwards to port 22 of TARGET. Every packet is delayed by 10 ms each way, and a
connection is opened one round trip later. It prints "up" when it listens.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial

DELAY = 0.010  # seconds each way


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward what arrives at `reader`, each piece DELAY after its arrival, until the end of the stream."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    sender = asyncio.create_task(_send_when_due(queue, writer))
    while True:
        try:
            data = await reader.read(65536)
        except ConnectionError:
            data = b""
        queue.put_nowait((time.monotonic() + DELAY, data))
        if not data:
            break
    await sender


async def _send_when_due(queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    while True:
        due, data = await queue.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if not data:
            writer.close()
            return
        writer.write(data)


async def _serve(target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2 * DELAY)  # the round trip that opening a connection takes
    far_reader, far_writer = await asyncio.open_connection(target, 22)
    await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer), return_exceptions=True)


async def _relay(address: str, ports: dict[int, str]) -> None:
    servers = [
        await asyncio.start_server(partial(_serve, target), address, port) for port, target in ports.items()
    ]
    print("up", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[2:])
    asyncio.run(_relay(sys.argv[1], {int(port): target for port, target in pairs}))
