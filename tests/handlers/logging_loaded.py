"""As logging_nothing_loaded, with logging loaded and not configured."""

import logging  # noqa: F401 - that it is loaded is the point

from logging_nothing_loaded import handle  # type: ignore[import-not-found]  # noqa: F401 - what is served
