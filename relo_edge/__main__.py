"""`python -m relo_edge` is `relo-edge`."""

from relo_edge.cli import main

main()
