"""Paths in a folder that belongs to the service's user, which root's supervisor goes along."""

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import unavailable
from tests.hostile.services import users
from tests.support import config
from tests.support.server import PATIENCE
from tests.test_injected_faults import TracedServer

_RESETS = 3
_SLOW = "?chown,?lchown,?fchownat,?chmod,?fchmodat,?fchmodat2:delay_enter=30000"
"""Each call that goes by a path begins three hundredths of a second late: time enough to be first."""

_REPLACING = """
import os, sys, time
folder, target, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
os.write(1, b"begun\\n")
until = time.monotonic() + seconds
while time.monotonic() < until:
    for name in os.listdir(folder):
        try:
            if name not in ("socket", "away") and not os.path.islink(os.path.join(folder, name)):
                os.rename(os.path.join(folder, name), os.path.join(folder, "away"))
                os.symlink(target, os.path.join(folder, name))
        except OSError:
            pass
"""
"""Whatever comes to be in a folder beside the socket is moved away at once, and a link to a file of root's put in its
place.
"""


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """A folder of the attacker's, and a file of root's that nobody else may read."""
    if (names := users()) is None:
        unavailable("only root has what another user could want")
    with tempfile.TemporaryDirectory(prefix="tcppar-hostile-") as name:
        folder, secret = Path(name) / "folder", Path(name) / "secret"
        Path(name).chmod(0o755)
        folder.mkdir()
        shutil.chown(folder, names[0])
        secret.write_text("of root")
        secret.chmod(0o600)
        yield folder, secret


def test_no_link_is_followed_when_a_unix_socket_is_reset(tmp_path: Path) -> None:
    """While the new socket is replaced by links before it has its name, a file of root's stays as it is."""
    with _folders() as (folder, secret):
        file = tmp_path / "tcppar.toml"
        command = [os.path.realpath(sys.executable), "-I", "-S", "-c", _REPLACING, str(folder), str(secret), "3"]
        attacker = {"listen": ["127.0.0.1:0", f"unix:{folder}/socket"], "command": command, "user": "nobody"}
        config.write(file, {"attacker": attacker | {"max_lifetime": 10, "kill_timeout": 1}})
        with TracedServer([_SLOW], "-c", file) as server, server.connect() as client:
            assert client.recv(6) == b"begun\n"
            for count in range(1, _RESETS + 1):
                server.signal(signal.SIGUSR1)
                server.wait_for(lambda record: record["event"] in ("reset", "fault"), count, PATIENCE)
            client.settimeout(PATIENCE)
            assert client.recv(1) == b""
        kept = secret.stat()
        assert (kept.st_uid, stat.S_IMODE(kept.st_mode)) == (0, 0o600)
        assert secret.read_text() == "of root"
