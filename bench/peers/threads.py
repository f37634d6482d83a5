"""socketserver.ThreadingTCPServer as its documentation shows it: one exchange. Prints its port."""

import socketserver


class EchoHandler(socketserver.BaseRequestHandler):
    """Answers what it reads, once."""

    def handle(self) -> None:
        self.request.sendall(self.request.recv(64))


class EchoServer(socketserver.ThreadingTCPServer):
    """With room for 64 clients (the default is a queue of 5), and without a list of the threads that have ended."""

    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    with EchoServer(("127.0.0.1", 0), EchoHandler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
