"""What was received and not yet read: plain data, which knows nothing of sockets, nor of waiting."""

from tcppar.child.errors import LimitExceeded


class Buffer:
    """Bytes that are added at the end and taken from the start; nothing is ever lost in between."""

    # No `_separator` begins in the first `_searched` bytes: a record that arrives in many pieces is searched once,
    # and not once for every piece.
    __slots__ = ("_data", "_searched", "_separator")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._separator = b""

    def __len__(self) -> int:
        return len(self._data)

    def append(self, data: bytes) -> None:
        """Add what was received."""
        self._data += data

    def take(self, most: int) -> bytes:
        """Take up to `most` bytes; empty if there are none."""
        data = self._data
        if most < len(data):
            taken = bytes(data[:most])
            del data[:most]  # moves the start, not the bytes
        else:
            taken = bytes(data)
            data.clear()
        self._searched = 0
        return taken

    def take_all(self) -> bytes:
        """Take all there is."""
        return self.take(len(self._data))

    def take_exactly(self, size: int) -> bytes | None:
        """Take `size` bytes; None if there are fewer, and then all of them stay.

        Raises:
            ValueError: `size` is negative.
        """
        if size < 0:
            raise ValueError(f"{size} is not a size: it must not be negative")
        return self.take(size) if size <= len(self._data) else None

    def take_until(self, separator: bytes, limit: int) -> bytes | None:
        """Take all up to the first separator, and it too; None if it can still come, and then all stays.

        Args:
            separator: one byte or more.
            limit: the most that may be taken, in bytes, the separator among them.

        Raises:
            LimitExceeded: it did not come within the limit; all stays.
            ValueError: the separator is empty, or the limit is below 1.
        """
        if not separator or limit < 1:
            raise ValueError("the separator must have at least one byte, and the limit must be at least 1")
        begin = self._searched if separator == self._separator else 0
        found = self._data.find(separator, begin, limit)
        if found >= 0:
            return self.take(found + len(separator))
        if len(self._data) >= limit:
            raise LimitExceeded(limit)
        # Its first bytes may be there already.
        self._separator, self._searched = separator, max(0, len(self._data) - len(separator) + 1)
        return None
