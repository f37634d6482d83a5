"""A server under the real systemd, which is process 1 of namespaces of its own."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE, tool, unavailable
from tests.support import config
from tests.support.server import PATIENCE, read_all, stop_process, wait_until

UNIT = """
[Unit]
DefaultDependencies=no

[Service]
Type=notify
ExecStart={command} serve -c {file}
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
WatchdogSec={watchdog}
WorkingDirectory={folder}
Environment=PYTHONPATH={path}
StandardError=file:{folder}/log
"""
SYSTEMD = Path("/lib/systemd/systemd")
WATCHDOG = 1


class Manager:
    """systemd, and one service, `tried`.

    Args:
        folder: of the test.
        more: lines for the unit.
    """

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self.folder = folder
        self.file = folder / "tcppar.toml"
        self._group = control_groups() / f"tcppar-tests-{os.getpid()}"
        units = folder / "units"
        units.mkdir()
        command = f"{sys.executable} -P -m tcppar"
        text = UNIT.format(command=command, file=self.file, folder=folder, path=":".join(sys.path), watchdog=WATCHDOG)
        if keep:
            text = text.replace(" serve ", " serve --keep ") + "NotifyAccess=all\n"
        (units / "tried.service").write_text(text)
        self._group.mkdir()
        namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts", "--net"]
        words = ["sh", str(HERE / "support" / "systemd.sh"), str(units), str(self._group), str(SYSTEMD)]
        with open(folder / "console", "wb") as console:
            self._process = subprocess.Popen(
                [tool("unshare"), *namespaces, *words], stdout=console, stderr=subprocess.STDOUT
            )

    def systemctl(self, *words: str) -> str:
        """What it answers; empty while it is not there yet."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return ""
        inside = [tool("nsenter"), "--target", children[0], "--mount", "--pid", tool("systemctl"), *words]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stdout.strip()

    def asked(self, name: str) -> str:
        return self.systemctl("show", "--value", "--property", name, "tried.service")

    def wait_until_active(self) -> None:
        try:
            wait_until(lambda: self.asked("ActiveState") == "active")
        except AssertionError:
            said = [file.read_text() for file in (self.folder / "console", self.folder / "log") if file.exists()]
            raise AssertionError(f"{self.systemctl('status', 'tried')} {said}") from None

    @property
    def main_pid(self) -> int:
        """As everybody outside knows it."""
        inside = self.asked("MainPID")
        for entry in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in entry.read_text().splitlines() if ":" in line)
            except OSError:
                continue
            numbers = lines.get("NSpid", "").split()
            if len(numbers) > 1 and numbers[-1] == inside and is_in(self._group.name, entry.parent):
                return int(numbers[0])
        raise AssertionError(f"there is no process {inside}")

    def said(self) -> str:
        """By the service's child to a client."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.folder / "one"))
            return read_all(client).decode().strip()

    def close(self) -> None:
        """End all of it at once."""
        self._process.kill()
        self._process.wait()
        wait_until(lambda: not (self._group / "cgroup.procs").read_text() and self._removed())

    def _removed(self) -> bool:
        try:
            for group, _, _ in os.walk(self._group, topdown=False):
                os.rmdir(group)
        except OSError:
            return False
        return True


def is_in(group: str, process: Path) -> bool:
    try:
        return group in (process / "cgroup").read_text()
    except OSError:
        return False


def control_groups() -> Path:
    """Where they are, in their second version."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [place for _, place, kind, *_ in mounts if kind == "cgroup2"]
    return Path(places[0]) if places else pytest.skip("there are no control groups (cgroup2)")


@pytest.fixture
def folder(open_folder: Path) -> Path:
    if os.geteuid() != 0:
        unavailable("only root can have systemd as process 1 of namespaces")
    if not SYSTEMD.exists() or not shutil.which("systemctl"):
        pytest.skip("systemd is not installed")
    trial = subprocess.run([tool("unshare"), "--pid", "--fork", "--mount", "--cgroup", "--net", "true"], check=False)
    if trial.returncode != 0 or not os.access(control_groups(), os.W_OK):
        pytest.skip("this system does not let us have namespaces and control groups")
    return open_folder


@pytest.fixture(params=[False, True], ids=["alone", "kept"])
def manager(request: pytest.FixtureRequest, folder: Path) -> Iterator[Manager]:
    config.write(folder / "tcppar.toml", {"one": {"command": ["echo", "old"]}})
    made = Manager(folder, keep=request.param)
    try:
        made.wait_until_active()
        yield made
    finally:
        made.close()


def test_the_watchdog_lets_a_server_live_that_turns(manager: Manager) -> None:
    seen: set[str] = set()

    def answered() -> bool:
        seen.add(manager.asked("WatchdogTimestampMonotonic"))
        return len(seen) > 5

    wait_until(answered)
    assert manager.asked("ActiveState") == "active"
    assert manager.asked("NRestarts") == "0"
    assert manager.said() == "old"


def test_and_ends_one_that_does_not(folder: Path) -> None:
    config.write(folder / "tcppar.toml", {"one": {"command": ["echo", "old"]}})
    manager = Manager(folder)
    try:
        manager.wait_until_active()
        stop_process(manager.main_pid)
        wait_until(lambda: manager.asked("Result") == "watchdog")
    finally:
        manager.close()


def test_a_reload_is_obeyed(manager: Manager) -> None:
    config.write(manager.file, {"one": {"command": ["echo", "new"]}})
    manager.systemctl("reload", "tried.service")
    wait_until(lambda: manager.said() == "new")
    assert manager.asked("ActiveState") == "active"


def test_a_stop_is_clean(manager: Manager) -> None:
    manager.systemctl("stop", "tried.service")
    assert manager.asked("Result") == "success"
    assert manager.asked("ExecMainStatus") == "0"
