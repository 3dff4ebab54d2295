"""Runs a program on a terminal of its own, 120 columns wide, and passes on what it writes there and how it ends."""

import fcntl
import os
import pty
import struct
import sys
import termios

child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        written = os.read(terminal, 4096)
    except OSError:  # Linux says so when the last one has closed the terminal.
        break
    if not written:
        break
    os.write(1, written)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
