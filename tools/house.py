"""Draws the house: each room's files, who imports whom, the circles, and what is longer than it should be.

Imports under `TYPE_CHECKING` count too: who reads one file has to read the other. With `--check` it exits with 1 if
there is a circle or something is too long.

    python tools/house.py [--check] [--imports] [FOLDER]
"""

import argparse
import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 350, 45, 8


@dataclass(frozen=True)
class Module:
    """A file, the modules that it imports, and the length of each of its functions in lines."""

    name: str
    path: Path
    lines: int
    imports: frozenset[str]
    functions: dict[str, int]


def read(path: Path, names: frozenset[str]) -> Module:
    """Read a file; `names` are those that count as imported."""
    text = path.read_text()
    if path.suffix != ".py":
        return Module(name_of(path), path, text.count("\n"), frozenset(), {})
    tree = ast.parse(text)
    name = name_of(path)
    if path == SOURCE / "tcppar" / "__init__.py":
        tree.body.clear()  # names for users, which are imported only when somebody asks for one
    found = {known for wanted in imported(tree) if (known := known_as(wanted, names)) and known != name}
    functions = {f"{name}.{node.name}": length(node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS)}
    return Module(name, path, text.count("\n"), frozenset(found), functions)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without its docstring: explaining more is not doing more."""
    first = node.body[0]
    explained = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    assert node.end_lineno is not None
    assert first.end_lineno is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if explained else 0)


def imported(tree: ast.Module) -> Iterator[str]:
    """Names that may be modules, the most exact first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known_as(name: str, names: frozenset[str]) -> str | None:
    """The module of ours that is meant: that name, or what it is taken from."""
    if name in names:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in names else None


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Groups in which each leads to each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in modules[name].imports:
            if other not in order:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in modules:
        if name not in order:
            visit(name)
    return found


def rooms(modules: list[Module]) -> dict[Path, list[Module]]:
    """The modules of each folder."""
    by_folder: dict[Path, list[Module]] = {}
    for module in sorted(modules, key=lambda module: module.path):
        by_folder.setdefault(module.path.parent, []).append(module)
    return by_folder


def draw(modules: list[Module], *, with_imports: bool) -> None:
    for folder, its in rooms(modules).items():
        print(f"{folder.relative_to(SOURCE)}/  {sum(module.lines for module in its)} lines in {len(its)} files")
        for module in its:
            print(f"  {module.path.name:24} {module.lines:5}")
            for other in sorted(module.imports) if with_imports else ():
                print(f"      {other}")


def complaints(modules: list[Module]) -> Iterator[str]:
    """What is not as it should be."""
    for circle in circles({module.name: module for module in modules}):
        yield f"a circle of {len(circle)}: {', '.join(circle)}"
    for module in modules:
        if module.lines > LONGEST_FILE:
            yield f"{module.path.relative_to(SOURCE)} has {module.lines} lines, more than {LONGEST_FILE}"
        for name, lines in module.functions.items():
            if lines > LONGEST_FUNCTION:
                yield f"{name} has {lines} lines, more than {LONGEST_FUNCTION}"
    median = statistics.median(lines for module in modules for lines in module.functions.values())
    if median > MEDIAN_FUNCTION:
        yield f"the median of the functions is {median} lines, more than {MEDIAN_FUNCTION}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SOURCE / "tcppar", help="what to draw (src/tcppar)")
    parser.add_argument("--imports", action="store_true", help="also what each file imports")
    parser.add_argument("--check", action="store_true", help="exit with 1 if something is not as it should be")
    wanted = parser.parse_args()
    paths = [path for ending in ("py", "[ch]") for path in wanted.folder.resolve().rglob(f"*.{ending}")]
    names = frozenset(name_of(path) for path in paths if path.suffix == ".py")
    modules = [read(path, names) for path in paths]
    draw(modules, with_imports=wanted.imports)
    found = list(complaints(modules))
    print(*found, sep="\n")
    return 1 if found and wanted.check else 0


if __name__ == "__main__":
    sys.exit(main())
