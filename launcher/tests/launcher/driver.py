"""Drives an interactive shell on a pseudo-terminal: driver.py SCENE COMMAND..."""

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time


class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self):
        self.shell, self.fd = pty.fork()
        if self.shell == 0:
            os.environ["PS1"] = "PROMPT> "
            os.environ.pop("PROMPT_COMMAND", None)
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        self.text = ""
        self.expect("PROMPT> ")

    def write(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, count=1):
        """Reads until `pattern` was seen `count` times; returns the text up to there and forgets it."""
        end = time.monotonic() + 30
        while len(found := list(re.finditer(pattern, self.text))) < count:
            if time.monotonic() > end:
                sys.exit(f"no {pattern!r} in {self.text!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 65536).decode()
        end = found[count - 1].end()
        seen, self.text = self.text[:end], self.text[end:]
        return seen

    def run(self, command):
        self.write(shlex.join(command) + "\n")


def check(condition, what, text):
    if not condition:
        sys.exit(f"{what}: {text!r}")


def read(terminal, command):
    terminal.run(command)
    terminal.expect(r"(?m)^name\? ")
    terminal.write("world\n")
    terminal.expect("hello world")
    terminal.expect("PROMPT> ")


def interrupt(terminal, command):
    terminal.run(command)
    terminal.expect("(?m)^ready", 4)
    terminal.write("\x03")
    seen = terminal.expect(r"interrupts \d+\r?\n", 4)
    check(seen.count("interrupts 1\r\n") == 4, "each rank gets the interrupt once", seen)
    terminal.expect("PROMPT> ")


def stop(terminal, command):
    terminal.run(command)
    terminal.expect("(?m)^ready")
    terminal.write("\x1a")
    terminal.expect("Stopped")
    terminal.expect("PROMPT> ")
    terminal.write("fg\n")
    terminal.expect("shmrun")
    terminal.write("a line\n")
    terminal.expect("got a line")
    terminal.expect("PROMPT> ")


def stop_early(terminal, command):
    """Stops a job while its ranks are still being started."""
    terminal.run(command)
    terminal.expect("(?m)^ready")
    terminal.write("\x1a")
    terminal.expect("Stopped")
    terminal.expect("PROMPT> ")
    terminal.write("fg\n")
    terminal.expect("shmrun")
    terminal.expect("PROMPT> ")


def kill(terminal, command):
    terminal.write(shlex.join(command) + " & echo launcher $!; fg\n")
    launcher = int(re.search(r"launcher (\d+)", terminal.expect(r"launcher \d+\r?\n")).group(1))
    terminal.expect(r"(?m)^ready \d+", 2)
    os.kill(launcher, 9)
    terminal.expect("Killed")
    terminal.expect("PROMPT> ")
    terminal.write("echo still $((40+2)) here\n")
    terminal.expect("still 42 here")


def color(terminal, command):
    terminal.run(command)
    terminal.expect(r"\x1b\[36m\[0\] \x1b\[0mcolored")
    terminal.expect("PROMPT> ")
    terminal.write("export NO_COLOR=1\n")
    terminal.expect("PROMPT> ")
    terminal.run(command)
    terminal.expect(r"(?m)^\[0\] colored")
    terminal.expect("PROMPT> ")
    terminal.write(shlex.join(command) + " | cat\n")
    terminal.expect(r"(?m)^\[0\] colored")


def background(terminal, command):
    """A job in the background that reads nothing is not stopped."""
    terminal.write(shlex.join(command) + " &\n")
    terminal.expect("PROMPT> ")
    seen = terminal.expect(r"(?m)^done", 2)
    check("Stopped" not in seen, "it runs on", seen)


def type_ahead(terminal, command):
    """What is typed while a job runs that does not read it is there for the shell."""
    terminal.run(command)
    terminal.expect(r"(?m)^ready")
    terminal.write("echo typed $((40+2)) ahead\n")
    terminal.expect(r"(?m)^done")
    terminal.expect("typed 42 ahead")


def debug(terminal, command):
    """Ctrl-C stops the debugged rank, and neither the job nor the other rank."""
    terminal.run(command)
    terminal.expect(r"\(gdb\) ")
    terminal.write("run\n")
    terminal.expect(r"ready", 2)
    terminal.write("\x03")
    terminal.expect("SIGINT")
    terminal.expect(r"\(gdb\) ")
    # Again at its prompt, where it means nothing.
    terminal.write("\x03")
    terminal.expect(r"\(gdb\) ")
    terminal.write("print 40 + 2\n")
    terminal.expect("= 42")
    terminal.write("kill\ny\nquit\n")
    terminal.expect("rank 1")
    terminal.expect("PROMPT> ")
    terminal.write("echo still $((40+2)) here\n")
    terminal.expect("still 42 here")


def top(terminal, command):
    """Looks at a job on a terminal; leaves by keys, and because the job has ended."""
    shmrun = command[0]
    terminal.run(["stty", "rows", "24", "cols", "150"])
    terminal.expect("PROMPT> ")
    terminal.write(shlex.join(command) + " & echo launcher $!\n")
    launcher = re.search(r"launcher (\d+)", terminal.expect(r"launcher \d+\r?\n")).group(1)
    terminal.expect(r"ready\r?\n", 2)
    for keys in ["q", "\x03", "SIGTERM", None]:
        terminal.run([shmrun, "top", launcher, "--interval", "0.2"])
        terminal.expect("RANK")
        terminal.expect("recv_vec")
        if keys == "SIGTERM":
            os.kill(youngest_child(terminal.shell), 15)
        elif keys:
            terminal.write(keys)
        else:
            os.kill(int(launcher), 15)
            terminal.expect("the job has ended")
        terminal.expect("PROMPT> ")
        # The terminal echoes and edits again.
        terminal.write("stty -a; echo mode $((40+2))\n")
        seen = terminal.expect("mode 42")
        check(re.search(r"[^-]icanon", seen) and re.search(r"[^-]echo ", seen), "a terminal as before", seen)


def youngest_child(process):
    with open(f"/proc/{process}/task/{process}/children") as children:
        return int(children.read().split()[-1])


def top_stop(terminal, command):
    """A view is stopped by Ctrl-Z, by SIGTSTP and by SIGSTOP, and comes back."""
    terminal.run(["stty", "rows", "24", "cols", "150"])
    terminal.expect("PROMPT> ")
    terminal.write(shlex.join(command) + " & echo launcher $!\n")
    launcher = re.search(r"launcher (\d+)", terminal.expect(r"launcher \d+\r?\n")).group(1)
    terminal.expect(r"ready\r?\n", 2)
    terminal.run([command[0], "top", launcher, "--interval", "0.2"])
    terminal.expect("recv_vec")
    view = youngest_child(terminal.shell)
    for stop in [lambda: terminal.write("\x1a"), lambda: os.kill(view, 20), lambda: os.kill(view, 19)]:
        stop()
        terminal.expect("Stopped")
        terminal.expect("PROMPT> ")
        terminal.write("echo mode $((40+2))\n")
        terminal.expect("mode 42")
        terminal.expect("PROMPT> ")
        terminal.write("fg\n")
        terminal.expect("recv_vec")
    terminal.write("q")
    terminal.expect("PROMPT> ")
    terminal.write("stty -a; echo mode $((40+2))\n")
    seen = terminal.expect("mode 42")
    check(re.search(r"[^-]icanon", seen) and re.search(r"[^-]echo ", seen), "a terminal as before", seen)
    os.kill(int(launcher), 15)
    terminal.expect("SIGTERM")


def closed(terminal, command):
    """The terminal of a view is closed: the view ends."""
    job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        job.stdout.readline()
        terminal.run(["stty", "rows", "24", "cols", "150"])
        terminal.run([command[0], "top", str(job.pid), "--interval", "0.2"])
        terminal.expect("RANK")
        view = youngest_child(terminal.shell)
        os.close(terminal.fd)
        end = time.monotonic() + 30
        while os.path.exists(f"/proc/{view}"):
            if time.monotonic() > end:
                os.kill(view, 9)
                sys.exit(f"process {view} still runs, without its terminal")
            time.sleep(0.05)
    finally:
        job.terminate()
        job.wait()


SCENES = {
    "top": top,
    "top_stop": top_stop,
    "closed": closed,
    "read": read,
    "interrupt": interrupt,
    "stop": stop,
    "stop_early": stop_early,
    "kill": kill,
    "color": color,
    "background": background,
    "type_ahead": type_ahead,
    "debug": debug,
}
SCENES[sys.argv[1]](Terminal(), sys.argv[2:])
print("fine")
