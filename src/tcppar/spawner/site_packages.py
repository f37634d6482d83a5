"""What is installed to be executed when Python starts: .pth files, those of editable installations among them, and
sitecustomize. The spawner starts without (-I -S), so that it is lean, and as the server's user. It is executed once,
before the handler is loaded, as the service's user."""

from __future__ import annotations

from tcppar.child.own_path import own


def execute(user_site: str) -> None:
    """As Python does at its start, with the path that is in force.

    Args:
        user_site: the folder of what the server's user has installed for himself; empty if it is not looked at.
    """
    site = own("site")
    site.ENABLE_USER_SITE = bool(user_site)
    if user_site:
        site.USER_SITE = user_site
    site.main()
