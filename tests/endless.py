"""A program that says that it runs, and then runs until a signal ends it."""

import signal

if __name__ == "__main__":
    print("running", flush=True)
    signal.pause()
