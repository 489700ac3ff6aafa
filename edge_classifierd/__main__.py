"""The way in: `edge-classifierd` and `python -m edge_classifierd`."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line and exit with its code.

    Signals that come while it is still loaded: Ctrl-C ends it without a traceback. `run` ends with code 0 after SIGTERM
    or Ctrl-C, and SIGHUP waits until the service handles it.
    """
    if sys.argv[1:2] == ["run"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge_classifierd.cli.main import main as command_line  # noqa: PLC0415

    command_line()


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # an exception in the middle of an import might be caught


if __name__ == "__main__":
    main()
