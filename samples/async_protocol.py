"""Requests and replies, many at once in one connection:

    tcppar serve 127.0.0.1:7000 --handler samples/async_protocol.py:handle

A request is a line, `TAG WHAT ARGUMENT...`. Its reply begins with the same tag, and comes when it is ready, whatever
was asked before: `1 wait 0.5` is answered half a second later by `1 ok waited`, `2 upper text` at once by `2 ok TEXT`.
"""

import asyncio

import tcppar

MOST_AT_ONCE = 16
"""Requests under way; further ones are not read before one is answered."""
LONGEST_LINE = 1024
LONGEST_REQUEST = 2.0
LONGEST_SILENCE = 60.0


async def handle(conn: tcppar.AsyncConnection) -> None:
    """Serve one client: this task reads, and one for each request works and replies."""
    places = asyncio.Semaphore(MOST_AT_ONCE)
    try:
        async with asyncio.TaskGroup() as requests:
            async for line in conn.lines(LONGEST_LINE, timeout=LONGEST_SILENCE):
                await places.acquire()
                request = requests.create_task(reply(conn, line.decode(errors="replace").split()))
                request.add_done_callback(lambda _: places.release())
    except* tcppar.LimitExceeded:
        await conn.write(b"- error the line is too long\n")
    except* tcppar.TimedOut:
        await conn.write(b"- error nothing was asked for long\n")
    except* tcppar.PeerGone:
        pass  # with it goes what it had asked for


async def reply(conn: tcppar.AsyncConnection, words: list[str]) -> None:
    """Do what one request asks for. Several tasks may write: each line goes out in one piece."""
    tag, *request = words or ["-"]
    try:
        async with asyncio.timeout(LONGEST_REQUEST):
            outcome = f"ok {await answer(request)}"
    except TimeoutError:
        outcome = "error it takes too long"
    except ValueError as error:
        outcome = f"error {error}"
    await conn.write(f"{tag} {outcome}\n".encode())


async def answer(request: list[str]) -> str:
    match request:
        case ["upper", *text]:
            return " ".join(text).upper()
        case ["wait", seconds]:
            await asyncio.sleep(float(seconds))
            return "waited"
    raise ValueError("expected TAG upper TEXT, or TAG wait SECONDS")
