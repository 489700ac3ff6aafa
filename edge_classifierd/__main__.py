"""Runs the command line: `python -m edge_classifierd`."""

from edge_classifierd.cli.main import main

if __name__ == "__main__":
    main()
