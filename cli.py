"""Launcher: `python cli.py ...` is `an8flower ...`."""

from an8flower.__main__ import main

if __name__ == "__main__":
    main(prog_name="an8flower")
