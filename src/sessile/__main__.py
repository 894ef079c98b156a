"""`python -m sessile`: the command line."""

from .cli import main

main()
