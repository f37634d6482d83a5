"""Compiles what makes hand-overs and children fast (src/tcppar/*/*.c) into the installation, where that can be done.

Without a compiler or Python's headers the package is complete all the same: it then sends and receives by the socket
module and runs programs by posix_spawn, which both take a little longer, and forks handlers' processes from a loop in
Python, which takes half as long again.
"""

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = Path("src")
SOURCES = [PACKAGES / "tcppar" / source for source in ("net/_calls.c", "spawner/_vfork.c", "spawner/_zygote.c")]
OPTIONS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fPIC", "-shared"]


class Compiler(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook, called once for each wheel or editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable installation finds the library beside its source."""
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        include = sysconfig.get_path("include")
        for source in SOURCES:
            library = (Path(self.root) / source).with_suffix(".abi3.so")
            try:
                subprocess.run(
                    [*compiler, *OPTIONS, f"-I{include}", str(Path(self.root) / source), "-o", str(library)], check=True
                )
            except (OSError, subprocess.CalledProcessError) as error:
                library.unlink(missing_ok=True)
                self.app.display_warning(f"{source.name} was not compiled, what it does is done in Python: {error}")
                continue
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            if version != "editable":
                build_data["force_include"][str(library)] = str(library.relative_to(Path(self.root) / PACKAGES))
