"""The three kinds of handlers; each answers line by line, with its kind in front."""

import socketserver

import tcppar


def function(conn: tcppar.Connection) -> None:
    for line in conn.lines():
        conn.write(b"function " + line)


async def coroutine(conn: tcppar.AsyncConnection) -> None:
    async for line in conn.lines():
        await conn.write(b"coroutine " + line)


class RequestHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"RequestHandler " + line)
