"""Tells its process id, and whenever it is asked to end, says so and goes on; it ends when its client is gone."""

import os
import signal

signal.signal(signal.SIGTERM, lambda number, frame: os.write(1, b"asked\n") and None)
os.write(1, b"%d\n" % os.getpid())
while os.read(0, 100):
    pass
