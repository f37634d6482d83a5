"""For each line: starts programs that end while it writes much, and tells how they ended."""

import asyncio
import subprocess

import tcppar

MANY = 50_000
CODES = (0, 7, 8, 9)


def script(code: int) -> str:
    return f"exit {code}"


def handle(conn: tcppar.Connection) -> None:
    for line in conn.lines():
        programs = [subprocess.Popen(["sh", "-c", script(code)]) for code in CODES]
        conn.write(line * MANY)
        conn.write(f"{[program.wait() for program in programs]}\n".encode())


async def coroutine(conn: tcppar.AsyncConnection) -> None:
    async for line in conn.lines():
        programs = [await asyncio.create_subprocess_exec("sh", "-c", script(code)) for code in CODES]
        await conn.write(line * MANY)
        await conn.write(f"{[await program.wait() for program in programs]}\n".encode())
