"""Print micro-expression intervals as they settle: python examples/subscribe.py [ws://127.0.0.1:8765/events]"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def main(url: str = "ws://127.0.0.1:8765/events") -> None:
    async for server in connect(url):  # a server that is away or restarts is waited for
        async for message in server:
            event = json.loads(message)
            if event["type"] == "event" and event["phase"] == "end":
                print(f"face {event['face']}: {event['onset_s']:.2f} s to {event['offset_s']:.2f} s", flush=True)


asyncio.run(main(*sys.argv[1:]))
