"""Configuration files for tests."""

import json
from collections.abc import Mapping
from pathlib import Path

Services = Mapping[str, Mapping[str, object]]


def write(file: Path, services: Services) -> None:
    """Write services as a file. One that does not say where it listens has a Unix socket of its name beside the file.

    JSON's texts, numbers, lists and truth values are TOML's too.
    """
    lines = []
    for name, settings in services.items():
        lines.append(f"[service.{name}]")
        for key, value in ({"listen": [f"unix:{file.parent / name}"]} | dict(settings)).items():
            if isinstance(value, dict):
                pairs = ", ".join(f"{word} = {json.dumps(what)}" for word, what in value.items())
                lines.append(f"{key} = {{{pairs}}}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    file.write_text("\n".join(lines) + "\n")
