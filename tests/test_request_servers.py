"""Request handlers of Python's own library, whose servers they ask for more than an address; servers that decide.

CGI's cases are those of CGIHTTPServerTestCase in Lib/test/test_httpservers.py (CPython 3.13), written anew, with
scripts for sh; each test names those it stands for. test_url_collapse_path is about a function, and not here.
"""

import http.client
import http.server
import os
import subprocess
import sys
import threading
import urllib.request
import wsgiref.simple_server
import xmlrpc.client
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import tcppar
from tests.support import request_servers as servers
from tests.test_socketserver_cases import exchange, quiet, serving

HELLO = "#!/bin/sh\nprintf 'Content-type: text/html\\n\\nHello World\\n'\n"
POSTED = "#!/bin/sh\nprintf 'Content-type: text/html\\n\\n'\nhead -c \"$CONTENT_LENGTH\"\n"
TELLS = '#!/bin/sh\nprintf "Content-type: text/plain\\n\\n"\necho "$REQUEST_METHOD $SCRIPT_NAME $QUERY_STRING"\n'
SERVER = '#!/bin/sh\nprintf "Content-type: text/plain\\n\\n"\necho "$SERVER_NAME $SERVER_PORT $REMOTE_ADDR"\n'
FAILS = "#!/bin/sh\nexit 3\n"
CLASSES = [servers.ForkingHTTP, servers.PoolHTTP, tcppar.ForkingTCPServer, tcppar.PoolTCPServer]


@pytest.fixture
def folder(open_folder: Path) -> Path:
    """With scripts that nobody may run, which is what CGI's handler becomes where it is root."""
    for place, text in {
        "cgi-bin/file1.sh": HELLO,
        "cgi-bin/file2.sh": POSTED,
        "cgi-bin/file3.sh": SERVER,
        "cgi-bin/file4.sh": TELLS,
        "cgi-bin/fails.sh": FAILS,
        "cgi-bin/child-dir/file5.sh": HELLO,
        "sub/dir/cgi-bin/file6.sh": HELLO,
    }.items():
        file = open_folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    for found in open_folder.rglob("*/"):
        found.chmod(0o755)
    return open_folder


class CGI(http.server.CGIHTTPRequestHandler):
    """With one folder of scripts more."""

    cgi_directories = [*http.server.CGIHTTPRequestHandler.cgi_directories, "/sub/dir/cgi-bin"]  # noqa: RUF012

    def log_message(self, *_: object) -> None: ...


@contextmanager
def http_server(kind: type[Any], handler: Any) -> Iterator[http.client.HTTPConnection]:
    with kind(("127.0.0.1", 0), handler) as server, serving(server):
        host, port = server.server_address
        yield http.client.HTTPConnection(host, port, timeout=10)


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__name__)
def client(request: pytest.FixtureRequest, folder: Path) -> Iterator[http.client.HTTPConnection]:
    with http_server(request.param, partial(CGI, directory=str(folder))) as connection:
        yield connection


def ask(
    client: http.client.HTTPConnection, target: str, method: str = "GET", **more: Any
) -> tuple[int, str | None, bytes]:
    client.request(method, target, **more)
    response = client.getresponse()
    content = response.read()
    client.close()
    return response.status, response.getheader("Content-type"), content


def test_scripts_answer(client: http.client.HTTPConnection) -> None:
    """test_headers_and_content, test_no_leading_slash, test_post, test_invalid_uri, test_issue19435."""
    hello = (200, "text/html", b"Hello World\n")
    assert ask(client, "/cgi-bin/file1.sh") == hello
    assert ask(client, "cgi-bin/file1.sh") == hello
    assert ask(client, "/cgi-bin/file2.sh", "POST", body=b"spam=1&eggs=python") == (
        200,
        "text/html",
        b"spam=1&eggs=python",
    )
    assert ask(client, "/")[0] == 200
    assert ask(client, "////////////nocgi.sh/../cgi-bin/nothere.sh")[0] == 404


def test_scripts_are_found_in_folders(client: http.client.HTTPConnection) -> None:
    """test_nested_cgi_path_issue21323, test_urlquote_decoding_in_cgi_check, test_authorization."""
    hello = (200, "text/html", b"Hello World\n")
    assert ask(client, "/cgi-bin/child-dir/file5.sh") == hello
    assert ask(client, "/sub/dir/cgi-bin/file6.sh") == hello
    assert ask(client, "/cgi-bin%2ffile1.sh") == hello
    authorization = {"Authorization": b"Basic " + b64encode(b"username:pass")}
    assert ask(client, "/cgi-bin/file1.sh", headers=authorization) == hello


def test_scripts_get_their_query_and_the_name_of_the_server(client: http.client.HTTPConnection) -> None:
    """test_query_with_multiple_question_mark, test_query_with_continuous_slashes, test_os_environ_is_not_altered."""
    told = [
        ask(client, target)[2].decode()
        for target in ("/cgi-bin/file4.sh?a=b?c=d", "/cgi-bin/file4.sh?k=aa%2F%2Fbb&//q//p//=//a//b//")
    ]
    assert told == [
        "GET /cgi-bin/file4.sh a=b?c=d\n",
        "GET /cgi-bin/file4.sh k=aa%2F%2Fbb&//q//p//=//a//b//\n",
    ]
    name, port, remote = ask(client, "/cgi-bin/file3.sh")[2].split()
    assert (port, remote) == (str(client.port).encode(), b"127.0.0.1")
    assert name in (b"localhost", b"127.0.0.1")
    assert os.environ.get("SERVER_PORT") is None
    assert ask(client, "/cgi-bin/fails.sh")[:2] == (200, None)
    assert ask(client, "/cgi-bin/file1.sh")[2] == b"Hello World\n"


# xmlrpc.server.


@pytest.mark.parametrize("kind", [servers.ForkingXMLRPC, servers.PoolXMLRPC])
def test_functions_and_methods_are_called_from_afar(kind: type[Any]) -> None:
    with kind(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
        server.register_introspection_functions()
        server.register_function(pow)
        server.register_function(servers.add, "plus")
        server.register_function(servers.fail)
        server.register_instance(servers.Arithmetic())
        with serving(server), xmlrpc.client.ServerProxy("http://{}:{}".format(*server.server_address)) as proxy:
            assert (proxy.pow(2, 3), proxy.plus(2, 3), proxy.mul(5, 2)) == (8, 5, 10)
            assert "plus" in proxy.system.listMethods()  # type: ignore[operator]
            with pytest.raises(xmlrpc.client.Fault, match="on purpose"):
                proxy.fail()


def test_what_the_processes_of_requests_cannot_find_is_refused_with_its_name() -> None:
    with servers.ForkingXMLRPC(("127.0.0.1", 0)) as server:
        server.register_function(lambda: 1, "one")
        with pytest.raises(tcppar.ConfigurationError, match=r"ForkingXMLRPC\.funcs: .*<lambda> cannot be found by"):
            server.serve_forever()


# wsgiref.


class Silent(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("kind", [servers.ForkingWSGI, servers.PoolWSGI])
def test_applications_are_served(kind: type[Any]) -> None:
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, servers.application, kind, Silent)
    with server, serving(server):
        url = f"http://127.0.0.1:{server.server_port}/path"
        with urllib.request.urlopen(urllib.request.Request(url, b"the body"), timeout=10) as response:
            method, path, name, port, body = response.read().split(b" ", 4)
    assert (method, path, int(port), body) == (b"POST", b"/path", server.server_port, b"the body")
    assert name.decode() == server.server_name


def test_an_application_that_cannot_be_pickled_is_found_where_its_module_has_it() -> None:
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, servers.framework, servers.ForkingWSGI, Silent)
    with (
        server,
        serving(server),
        urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as response,
    ):
        assert response.read() == b"from the framework"


# Servers that decide.


@pytest.mark.parametrize("kind", [servers.Deciding, servers.PoolDeciding])
def test_what_a_server_overrides_is_called_in_the_process_of_the_request(kind: type[Any]) -> None:
    with kind(("127.0.0.1", 0), servers.Asks) as server:
        server.database_url = "postgres://"
        with serving(server):
            assert exchange(server, b"database_url") == b"('postgres://', b'extra')."
            assert exchange(server, b"greeting") == b"(b'hello', b'extra')."
            assert exchange(server, b"-nothing") == b"."
            handled = exchange(server, b"fail").decode().removesuffix(".")
    assert handled.startswith("handled LookupError: on purpose in ")
    assert int(handled.split()[-1]) != os.getpid()


def test_a_decision_that_no_process_could_find_is_refused() -> None:
    class Local(tcppar.ForkingTCPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return False

    with pytest.raises(tcppar.ConfigurationError, match="is defined inside a function"):
        Local(("127.0.0.1", 0), servers.Asks)


def test_a_base_that_would_be_lost_is_refused() -> None:
    class Local(tcppar.ForkingTCPServer, http.server.HTTPServer):
        pass

    with pytest.raises(tcppar.ConfigurationError, match="is defined inside a function"):
        Local(("127.0.0.1", 0), servers.Asks)


def test_what_cannot_be_pickled_is_told_where_it_is_missed() -> None:
    with quiet(tcppar.ForkingTCPServer)(("127.0.0.1", 0), Missing) as server:
        server.lock = threading.Lock()
        server.limit = 5
        with serving(server):
            told = exchange(server).decode()
    assert told.startswith("5 self.server.lock cannot be passed to the request's process: TypeError: cannot pickle")


class Missing(servers.Asks):
    def handle(self) -> None:
        server: Any = self.server
        try:
            server.lock  # noqa: B018
        except AttributeError as error:
            self.request.sendall(f"{server.limit} {error}".encode())


async def asynchronous(conn: object) -> None: ...


def plain(conn: object) -> None: ...


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("handler", [asynchronous, plain, partial(plain)])
def test_a_function_is_no_request_handler_class(kind: type[Any], handler: Any) -> None:
    with pytest.raises(
        tcppar.ConfigurationError, match=r"is not a class: expected a request handler class of socketserver"
    ):
        kind(("127.0.0.1", 0), handler)


def test_too_much_is_refused() -> None:
    with servers.ForkingXMLRPC(("127.0.0.1", 0)) as server:
        server.table = os.urandom(200_000)
        with pytest.raises(tcppar.ConfigurationError, match="attributes are too large for the processes"):
            server.serve_forever()


def test_a_partial_class_is_a_handler_of_the_command_too(tmp_path: Path) -> None:
    from tests.support.server import Server

    (tmp_path / "app.py").write_text(
        "from functools import partial\nfrom http.server import SimpleHTTPRequestHandler\n"
        f"serve = partial(SimpleHTTPRequestHandler, directory={str(tmp_path)!r})\n"
    )
    with Server("127.0.0.1:0", "--handler", f"{tmp_path}/app.py:serve") as server:
        assert b"partial(SimpleHTTPRequestHandler" in server.exchange(b"GET /app.py HTTP/1.0\r\n\r\n")


# Programs, with one line changed.

XMLRPC = """
    import sys, tcppar
    from xmlrpc.server import SimpleXMLRPCServer, SimpleXMLRPCRequestHandler

    class Server(tcppar.{kind}, SimpleXMLRPCServer): pass   # was socketserver.ThreadingMixIn

    class RequestHandler(SimpleXMLRPCRequestHandler):
        rpc_paths = ("/RPC2",)

    class Functions:
        def mul(self, x, y):
            return x * y

    def adder(x, y):
        return x + y

    if __name__ == "__main__":
        with Server(("127.0.0.1", 0), requestHandler=RequestHandler) as server:
            server.register_introspection_functions()
            server.register_function(pow)
            server.register_function(adder, "add")
            server.register_instance(Functions())
            print(server.server_address[1], flush=True)
            server.serve_forever()
"""
WSGI = """
    import sys, tcppar
    from wsgiref.simple_server import WSGIServer, demo_app, make_server

    class Server(tcppar.{kind}, WSGIServer): pass   # was socketserver.ThreadingMixIn

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello from ", environ["SERVER_PORT"].encode()]

    if __name__ == "__main__":
        with make_server("127.0.0.1", 0, application, server_class=Server) as server:
            print(server.server_port, flush=True)
            server.serve_forever()
"""
CGI_PROGRAM = """
    import tcppar
    from http.server import CGIHTTPRequestHandler

    if __name__ == "__main__":
        with tcppar.{kind}(("127.0.0.1", 0), CGIHTTPRequestHandler) as server:   # was http.server.HTTPServer
            print(server.server_port, flush=True)
            server.serve_forever()
"""
KINDS = ["ForkingTCPServer", "PoolTCPServer"]


@contextmanager
def program(folder: Path, text: str, kind: str) -> Iterator[int]:
    """Run it in its folder; the port that it serves."""
    (folder / "program.py").write_text(dedent(text).format(kind=kind))
    process = subprocess.Popen(
        [sys.executable, "program.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        yield int(line)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_with_xmlrpc(tmp_path: Path, kind: str) -> None:
    with (
        program(tmp_path, XMLRPC, kind) as port,
        xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/RPC2") as proxy,
    ):
        assert (proxy.pow(2, 3), proxy.add(2, 3), proxy.mul(5, 2)) == (8, 5, 10)
        assert "add" in proxy.system.listMethods()  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_with_wsgiref(tmp_path: Path, kind: str) -> None:
    with program(tmp_path, WSGI, kind) as port:
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                assert response.read() == f"hello from {port}".encode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_with_cgi(folder: Path, kind: str) -> None:
    with (
        program(folder, CGI_PROGRAM, kind) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/cgi-bin/file3.sh", timeout=10) as response,
    ):
        assert response.read().split()[1] == str(port).encode()
