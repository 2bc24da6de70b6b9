"""Commands: parse, call, print."""

from medprior.cli.app import main

__all__ = ["main"]
