"""What is fuzzed, compiled with sanitizers: programs of the C alone, and the package with its extension modules."""

import os
import shutil
import subprocess
from pathlib import Path

import hatch_build

HERE = Path(__file__).parent
PACKAGE = HERE.parent.parent / hatch_build.PACKAGES / "tcppar"
SEEDS = HERE / "seeds"
PROGRAMS = ("messagepack", "inbox")
"""Targets that are C alone, each named as its source here."""

_SANITIZERS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
_WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]


class NoSanitizers(Exception):
    """What is missing here."""


def require_sanitizers(folder: Path) -> None:
    """Raise NoSanitizers unless there are a compiler and its sanitizers.

    Args:
        folder: to try it in.
    """
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    if shutil.which("gcc") is None:
        raise NoSanitizers("gcc is not installed")
    try:
        _gcc(source, "-o", source.with_suffix(""), quiet=True)
        subprocess.run([source.with_suffix("")], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoSanitizers("gcc has no address sanitizer that runs here") from error


def program(name: str, folder: Path) -> Path:
    """Compile one of PROGRAMS into a folder."""
    made, target, driver = folder / name, folder / f"{name}.o", folder / "driver.o"
    _gcc("-c", HERE / "driver.c", "-o", driver)
    _gcc("-fsanitize-coverage=trace-pc", "-c", HERE / f"{name}.c", "-o", target)
    _gcc(target, driver, "-o", made)
    return made


def package(folder: Path) -> dict[str, str]:
    """Copy the package into a folder, with its modules of C compiled.

    Returns:
        The environment in which Python takes it. What a sanitizer finds in any process stands in
        `findings_of(folder)` then.
    """
    import sysconfig

    shutil.copytree(PACKAGE, folder / "tcppar", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for source in hatch_build.SOURCES:
        copy = folder / source.relative_to(hatch_build.PACKAGES)
        include = f"-I{sysconfig.get_path('include')}"
        _gcc("-fPIC", "-shared", include, copy, "-o", copy.with_suffix(".abi3.so"))
    options = f"abort_on_error=1:detect_leaks=0:allocator_may_return_null=1:log_path={folder / 'finding'}"
    return os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",  # one allocation for each object: the sanitizer sees where it ends
        "LD_PRELOAD": _library("libasan.so"),
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": f"print_stacktrace=1:{options}",
    }


def findings_of(folder: Path) -> list[Path]:
    """What sanitizers have written."""
    return sorted(folder.glob("finding.*"))


def _gcc(*words: str | Path, quiet: bool = False) -> None:
    subprocess.run(["gcc", *_SANITIZERS, *_WARNINGS, *words], check=True, capture_output=quiet)


def _library(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return os.path.realpath(found.stdout.strip())
