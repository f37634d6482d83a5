"""Coroutines that use more of their event loop than their connection does."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import tcppar


async def threads(conn: tcppar.AsyncConnection) -> None:
    """Is woken by threads and by a signal, while it has nothing else to wake it."""
    for _ in range(5):
        await asyncio.to_thread(time.sleep, 0.02)
    signalled = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signalled.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await signalled.wait()
    await conn.write(b"woken")


async def _numbers() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        print("the generator has ended")


async def _waits() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        print("the task was cancelled")


LEFT: list[object] = []


async def leaves(conn: tcppar.AsyncConnection) -> None:
    """Leaves a task and a generator that have not ended."""
    numbers = _numbers()
    LEFT.extend([numbers, asyncio.create_task(_waits())])
    await anext(numbers)
    await asyncio.sleep(0)
    await conn.write(b"left")
