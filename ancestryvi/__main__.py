"""`python -m ancestryvi`, the same as `ancestryvi`."""

from ancestryvi.cli import main

main(prog_name="ancestryvi")
