"""`python -m medprior` is the command `medprior`."""

from medprior.cli import main

main()
