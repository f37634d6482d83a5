"""Certificates made by openssl, and a server of openssl's that shows one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.conftest import tool
from tests.support.server import PATIENCE

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_AUTHORITY = """
[ca]
default_ca = authority
[authority]
database = index
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = policy
rand_serial = yes
copy_extensions = copy
unique_subject = no
[policy]
commonName = supplied
"""


class Authority:
    """A certificate authority of its own, in a folder.

    Attributes:
        file: its certificate, for those who are to trust it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "ca.pem"
        (folder / "index").touch()
        (folder / "ca.cnf").write_text(_AUTHORITY)
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test authority")

    def _openssl(self, *words: str) -> None:
        subprocess.run([tool("openssl"), *words], cwd=self._folder, check=True, capture_output=True, timeout=PATIENCE)

    def certificate(self, name: str, host: str, valid_to: str = "20991231235959Z") -> Path:
        """A file with a certificate for the host, by name or address, and its key; made once for a name."""
        request, key, file = f"{name}.csr", f"{name}.key", self._folder / f"{name}.pem"
        subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName={'IP' if ':' in host else 'DNS'}:{host}"]
        self._openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, *subject)
        dates = ["-startdate", "20200101000000Z", "-enddate", valid_to]
        self._openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-in", request, "-out", file.name, *dates)
        file.write_text(file.read_text() + (self._folder / key).read_text())
        return file


class TlsServer(NamedTuple):
    """A running `openssl s_server`: what clients send comes out of `received`; `reply` goes to the one connected."""

    port: int
    received: IO[bytes]
    reply: IO[bytes]

    def receive(self, wanted: bytes) -> None:
        """Read until this has come."""
        seen = b""
        while wanted not in seen:
            piece = self.received.read(1)
            assert piece, seen
            seen += piece

    def send(self, data: bytes) -> None:
        self.reply.write(data)
        self.reply.flush()


@contextmanager
def tls_server(certificate: Path, host: str = "127.0.0.1") -> Iterator[TlsServer]:
    """Serve TLS with a certificate, one client after the other."""
    shown = f"[{host}]" if ":" in host else host
    words = [tool("openssl"), "s_server", "-accept", f"{shown}:0", "-cert", str(certificate), "-naccept", "100"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin
    assert process.stdout
    try:
        line = next(line for line in process.stdout if line.startswith(b"ACCEPT"))
        yield TlsServer(int(line.rpartition(b":")[2]), process.stdout, process.stdin)
    finally:
        process.kill()
        process.communicate()
