"""socketserver.ForkingTCPServer as its documentation shows it: one exchange. Prints its port."""

import socketserver


class EchoHandler(socketserver.BaseRequestHandler):
    """Answers what it reads, once."""

    def handle(self) -> None:
        self.request.sendall(self.request.recv(64))


class EchoServer(socketserver.ForkingTCPServer):
    """With room for 64 clients: the defaults are a queue of 5 and 40 children."""

    request_queue_size = 1024
    max_children = 1024


if __name__ == "__main__":
    with EchoServer(("127.0.0.1", 0), EchoHandler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
