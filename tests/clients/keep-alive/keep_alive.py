"""Sends POSTs with pauses, with requests, httpx, or aiohttp, and checks that all use the first connection."""

import asyncio
import sys
import time
from types import SimpleNamespace

import aiohttp
import httpx
import requests

library, url, count, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
headers = {"X-User": f"keep-alive-{library}"}


def with_requests() -> int:
    """Returns the number of connections that requests opened."""
    with requests.Session() as session:
        for _ in range(count):
            response = session.post(url, headers=headers, timeout=10)
            response.raise_for_status()
            time.sleep(pause)
        # requests does not tell, but the pools of urllib3 that it uses do.
        pools = session.get_adapter(url).poolmanager.pools  # type: ignore[attr-defined]
        return sum(pools[key].num_connections for key in pools.keys())


def with_httpx() -> int:
    """Returns the number of connections that httpx opened, which differ in the port of the client."""
    ports = set()
    with httpx.Client() as client:
        for _ in range(count):
            response = client.post(url, headers=headers, timeout=10)
            response.raise_for_status()
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(pause)
    return len(ports)


async def with_aiohttp() -> int:
    """Returns the number of connections that aiohttp opened."""
    opened = 0

    async def connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
        nonlocal opened
        opened += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, trace_configs=[trace]) as session:
        for _ in range(count):
            async with session.post(url) as response:
                response.raise_for_status()
                await response.read()
            await asyncio.sleep(pause)
    return opened


match library:
    case "requests":
        connections = with_requests()
    case "httpx":
        connections = with_httpx()
    case "aiohttp":
        connections = asyncio.run(with_aiohttp())
    case _:
        raise SystemExit(f"unknown library `{library}`; expected `requests`, `httpx`, or `aiohttp`")
if connections != 1:
    raise SystemExit(f"not true: {library} sends {count} POSTs on 1 connection\n  actual: {connections}")
