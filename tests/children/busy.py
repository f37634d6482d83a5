"""Works until it has used a fifth of a second of processor time, then greets its client."""

import os
import time

while time.process_time() < 0.2:
    pass
os.write(1, b"done\n")
