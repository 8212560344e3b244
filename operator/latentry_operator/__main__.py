"""``python -m latentry_operator``: the same as the console script ``latentry``."""

from latentry_operator.cli import main

if __name__ == "__main__":
    main()
