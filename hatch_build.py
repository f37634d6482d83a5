"""Compiles the launcher (src/tcppar/spawner/_vfork.c) into the installation, where that can be done.

Without a compiler or Python's headers the package is complete all the same: it then runs programs by posix_spawn,
which takes a little longer.
"""

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/tcppar/spawner/_vfork.c")
OPTIONS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fPIC", "-shared"]


class Launcher(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook, called once for each wheel or editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable installation finds the library beside its source."""
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        source = Path(self.root) / SOURCE
        library = source.with_suffix(".abi3.so")
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        include = sysconfig.get_path("include")
        try:
            subprocess.run([*compiler, *OPTIONS, f"-I{include}", str(source), "-o", str(library)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"the launcher was not compiled, posix_spawn is used: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"][str(library)] = str(Path("tcppar/spawner") / library.name)
