"""`python -m freezeinspect`."""

from freezeinspect.cli import main

main(prog_name="freezeinspect")
