"""README.md and docs/: what they show can be done as it is shown, and what they lead to is there."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.support import command

CHECKOUT = HERE.parent
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
README = (CHECKOUT / "README.md").read_text()
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")


def named(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def anchors(page: Path) -> set[str]:
    """What a heading is called by a link, as GitHub does it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}{anchor}"


def blocks() -> Iterator[str]:
    """What stands indented in the README."""
    for block in re.findall(r"(?:^(?:    .*)?\n)+", README, re.MULTILINE):
        yield re.sub("^    ", "", block, flags=re.MULTILINE).strip("\n")


def block(start: str) -> str:
    """The one that begins so."""
    [found] = [text for text in blocks() if text.startswith(start)]
    return found + "\n"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("line", re.findall(r"^    tcppar serve (.*)$", README, re.MULTILINE))
def test_each_command_of_the_readme_has_no_mistake(line: str) -> None:
    if "--user" in line and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    checked = command.run("check", *shlex.split(line), cwd=CHECKOUT)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_file_of_the_readme_is_checked_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "tcppar.toml").write_text(block('log_format = "json"'))
    asked, *said, rest = block("$ tcppar check").splitlines()
    assert rest == "..."
    checked = command.run(*shlex.split(asked)[2:], cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[: len(said)] == said


def test_the_program_of_the_readme_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(block("import tcppar"))
    checked = command.run("check", "127.0.0.1:0", "--handler", "orders:handle", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
