"""Published pre-training methods, one file each; a file's name is its method's name."""

from medprior.registry import Registry

METHODS = Registry(
    "method",
    "medprior.methods",
    base="Method",
    exclude=frozenset({"method", "heads", "factory", "schedules", "teacher"}),
)
