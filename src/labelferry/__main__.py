"""``python -m labelferry``."""

from labelferry.cli import main

if __name__ == "__main__":
    main()
