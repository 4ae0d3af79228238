"""Counts the interrupts that arrive within two seconds."""

import os
import signal
import time

read, write = os.pipe()
os.set_blocking(write, False)
# A byte per delivery: a handler in a shell would see two deliveries as one.
signal.set_wakeup_fd(write)
signal.signal(signal.SIGINT, lambda *_: None)
print("ready", flush=True)
time.sleep(2)
os.write(write, b".")
print("interrupts", len(os.read(read, 100)) - 1, flush=True)
