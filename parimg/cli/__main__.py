"""``python -m parimg.cli``."""

from parimg.cli import main

main()
