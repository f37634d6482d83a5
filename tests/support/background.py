"""Runs a command as a shell's background job on descriptor 2, a terminal that lets none of those write (stty tostop);
ends it at SIGTERM."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

os.setsid()
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
attributes = termios.tcgetattr(2)
attributes[3] |= termios.TOSTOP
termios.tcsetattr(2, termios.TCSANOW, attributes)
job = subprocess.Popen(sys.argv[1:], process_group=0)
signal.signal(signal.SIGTERM, lambda number, frame: job.send_signal(number))
sys.exit(job.wait())
