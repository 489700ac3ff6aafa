"""The way in: `edge-classifierd` and `python -m edge_classifierd`."""

import signal


def main() -> None:
    """Run the command line and exit with its code. Ctrl-C while it is still loaded ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge_classifierd.cli.main import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
