"""`python -m mnv4serve` is the console script."""

from mnv4serve.cli import main

main()
