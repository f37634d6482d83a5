"""What becomes of listeners."""

from tcppar.events.event import Event, Level


class Listening(Event, frozen=True, kw_only=True, tag="listening"):
    """A listener is open and served. In text form the whole line is `listening on ADDRESS`."""

    address: str
    service: str

    def sentence(self) -> str:
        return f"listening on {self.address}"


class ListenerReset(Event, frozen=True, kw_only=True, tag="reset"):
    """A listener was reset, on request or after too many strikes. `lossless`: no client can have been lost by it."""

    service: str
    address: str
    reason: str
    lossless: bool

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        return f"{self.service} {self.address}: reset, {self.reason}" + (
            "" if self.lossless else "; clients that arrived at that moment may have been refused"
        )


class ListenerClosed(Event, frozen=True, kw_only=True, tag="closed"):
    """A listener was closed after its queue was emptied."""

    service: str
    address: str

    def sentence(self) -> str:
        return f"{self.service} {self.address}: closed, its queue was empty"
