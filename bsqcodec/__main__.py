"""`python -m bsqcodec` is the command line tool."""

from bsqcodec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
