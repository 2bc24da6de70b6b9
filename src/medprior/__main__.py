"""`python -m medprior` is the command `medprior`."""

from medprior.cli import main

if __name__ == "__main__":  # worker processes import this file too
    main()
