"""A job: answers each line that comes on the connection whose number is its argument, until there are no more."""

import os
import sys

with open(int(sys.argv[1]), "rb") as lines:
    for line in lines:
        os.write(lines.fileno(), line)
