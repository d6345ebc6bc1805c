"""`python -m p2r` and `accelerate launch -m p2r` are the command line."""

from p2r.cli import main

main()
