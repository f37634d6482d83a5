"""Uses 100 MB of memory, then greets its client."""

import os

used = bytearray(os.urandom(1)) * 100_000_000
os.write(1, b"done\n")
