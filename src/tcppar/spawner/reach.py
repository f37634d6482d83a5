"""What this process's user can reach, and where on the way to it that ends. Imported where something was refused."""

import os


def blocked(path: str) -> str:
    """The first folder on the way to a file that this user cannot pass, as ` (at FOLDER)`; empty if there is none."""
    place = ""
    for name in path.rstrip("/").split("/")[:-1]:
        place += f"{name}/"
        if not os.access(place, os.X_OK):
            return f" (at {place})"
    return ""
