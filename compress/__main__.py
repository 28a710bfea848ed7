"""`python -m compress` and the command `compress`."""

from __future__ import annotations

from compress.cli import main

if __name__ == "__main__":
    main()
