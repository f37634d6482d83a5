"""Handlers that begin TLS themselves, as the refusal of a wrapped listener says. Each answers one line."""

import os
import ssl
from socketserver import StreamRequestHandler

import tcppar

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if certificate := os.environ.get("TCPPAR_TEST_CERTIFICATE"):
    context.load_cert_chain(certificate)


def handle(conn: tcppar.Connection) -> None:
    with context.wrap_socket(conn.socket, server_side=True) as tls:
        tls.sendall(tls.recv(100))


def waiting(conn: tcppar.Connection) -> None:
    """Says when it waits, and goes on to write."""
    with context.wrap_socket(conn.socket, server_side=True) as tls:
        tls.sendall(b"ready\n")
        tls.recv(100)
        while True:
            tls.sendall(bytes(65536))


class Request(StreamRequestHandler):
    def setup(self) -> None:
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline())

    def finish(self) -> None:
        super().finish()
        self.request.close()


class Waiting(Request):
    def handle(self) -> None:
        self.wfile.write(b"ready\n")
        self.rfile.readline()
        while True:
            self.wfile.write(bytes(65536))
