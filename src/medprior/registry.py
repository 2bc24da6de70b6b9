"""One small registry: a package's files are its entries, so listing imports none of them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from medprior.errors import unknown


@dataclass(frozen=True)
class Registry:
    """The modules of `package`, each an entry named by its file and holding one subclass of `base`.

    Args:
        kind: what an entry is called in messages, for instance "method".
        package: the dotted package whose files are the entries.
        base: the name of the class every entry derives from.
        exclude: file names that are no entries.
    """

    kind: str
    package: str
    base: str
    exclude: frozenset[str]

    def names(self) -> list[str]:
        """All entries, sorted, without importing any of them."""
        found = importlib.util.find_spec(self.package)
        folder = Path(found.origin).parent if found and found.origin else Path()
        return sorted(f.stem for f in folder.glob("*.py") if not f.stem.startswith("_") and f.stem not in self.exclude)

    def get(self, name: str) -> type:
        """Import the file `name` and return the one class it defines that derives from `base`.

        Raises:
            SettingsError: no such entry; the message carries the nearest one.
        """
        if name not in self.names():
            raise unknown(self.kind, name, self.names(), see=f"medprior {self.kind}s")
        module = importlib.import_module(f"{self.package}.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and self._derives(value):
                return value
        raise RuntimeError(f"{module.__name__} defines no {self.base}")

    def _derives(self, value: type) -> bool:
        return any(parent.__name__ == self.base for parent in value.__mro__[1:])
