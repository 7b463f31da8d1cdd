"""``python -m numpy_xlstm``: the command line."""

from numpy_xlstm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
