"""Answers what it reads, once, as a request handler of socketserver."""

from socketserver import StreamRequestHandler


class handle(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read1(64))
