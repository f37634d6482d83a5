"""Answers what it reads, once, as a coroutine."""

import tcppar


async def handle(conn: tcppar.AsyncConnection) -> None:
    await conn.write(await conn.read(64))
