"""``python -m grainwise``."""

from grainwise.cli.main import main

if __name__ == "__main__":
    main()
