"""Logs in every way without loading logging, and says whether anybody has loaded it."""

import sys

import tcppar


def handle(conn: tcppar.Connection) -> None:
    say_all(conn)
    conn.write(b"loaded" if "logging" in sys.modules else b"not loaded")


def say_all(conn: tcppar.Connection) -> None:
    log = conn.log
    log.debug("not seen")
    log.info("plain 100%")
    log.warning("%s and %d", "text", 7)
    log.error("%(name)s", {"name": "mapped"})
    log.critical(ValueError("an object"))
    log.log(35, "between", extra={"unseen": 1})
    log.info("%d", "no number")
    log.info("%s %s", *["too few"])
    try:
        raise LookupError("lost")
    except LookupError as error:
        log.exception("failed")
        log.error("as a flag", exc_info=True)
        log.error("as itself", exc_info=error)
    log.exception("nothing was raised", exc_info=False)
    log.info("last")
