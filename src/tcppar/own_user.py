"""Who this process is, for messages."""

import os
import pwd


def name() -> str:
    """This process's user, by name if it has one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
