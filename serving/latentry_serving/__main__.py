"""``python -m latentry_serving``: the data plane's commands without the operator's package."""

from latentry_serving.cli import main

main()
