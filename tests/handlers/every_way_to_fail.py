"""Fails in the way that its client asks for. It imports nothing, so that nothing hides what tcppar does."""
# mypy: ignore-errors


class Group:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("it cannot be told")


def fail():
    with Group():
        pass


def fail_at_once():
    return 1 / 0


def deep():
    deep()


def chained():
    try:
        fail_at_once()
    except ZeroDivisionError as error:
        later = LookupError("noted: \udcff")
        later.add_note("a note")
        raise later from error


def never_awaited():
    async def coroutine():
        pass

    coroutine()


class AtItsEnd:
    def __del__(self):
        raise ValueError("unraisable")


def exit_with(value):
    raise SystemExit(value)


WAYS = {
    "raise": lambda: 1 / 0,
    "group": fail,
    "unspeakable": lambda: (_ for _ in ()).throw(Unspeakable()),
    "deep": deep,
    "chained": chained,
    "syntax": lambda: compile("x = = 1", "somewhere.py", "exec"),
    "warned": lambda: compile("'\\d'", "somewhere.py", "exec"),
    "never awaited": never_awaited,
    "unraisable": AtItsEnd,
    "exit": lambda: exit_with("a text"),
    "decode": lambda: b"\xff".decode(),
    "idle": lambda: None,
}


def handle(conn):
    way = conn.read_until(timeout=5).decode().strip()
    conn.socket.getpeername()
    conn.log.warning("it is %s", way)
    if way == "late":
        conn.read(timeout=0.01)
    elif way == "long":
        conn.read_until(limit=1)
    elif way == "gone":
        conn.read_exactly(100)
    elif way == "unrun":
        return (part for part in ())
    else:
        WAYS[way]()
    return None


async def coroutine(conn):
    way = (await conn.read_until(timeout=5)).decode().strip()
    conn.socket.getpeername()
    conn.log.warning("it is %s", way)
    if way == "late":
        await conn.read(timeout=0.01)
    elif way == "long":
        await conn.read_until(limit=1)
    elif way == "gone":
        await conn.read_exactly(100)
    elif way == "unrun":
        return (part for part in ())
    else:
        WAYS[way]()
    return None


class Request:
    def __init__(self, request, address, server):
        way = request.recv(100).decode().strip()
        if way in ("late", "long", "gone", "unrun"):
            way = server.database
        WAYS[way]()

    def setup(self): ...
    def handle(self): ...
    def finish(self): ...
