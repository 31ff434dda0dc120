"""The source files of imported modules: read anew where a compiled one may be older, and told to who watches them.

Python takes a compiled file for current when its source has the same size and was saved in the same second. Who changes
a word and has it loaded at once would get the old code.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import cache_from_source
from types import ModuleType

Signature = list[int] | None
"""When a file was saved, in nanoseconds, and its size; None where there is none."""

_INSTALLED = ("site-packages", "dist-packages")
noted: dict[str, Signature] = {}
"""What was read, until `news` is asked for."""
_folders: list[str] = []
_packages: set[str] = set()


def install() -> None:
    """From now on modules are imported in this way."""
    loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceLoader, SOURCE_SUFFIXES)
    sys.path_hooks.insert(0, FileFinder.path_hook(*loaders, (SourcelessFileLoader, BYTECODE_SUFFIXES)))
    sys.path_importer_cache.clear()


def watch(folder: str, modules: Iterable[str]) -> None:
    """Note what is read below this folder, and of the packages of these modules, wherever they are."""
    _folders.append(folder.rstrip(os.sep) + os.sep)
    _packages.update(module.partition(".")[0] for module in modules)


def news() -> dict[str, Signature]:
    """The files that were read since this was asked last, as they were right before."""
    found = {}
    while noted:  # other threads may import meanwhile
        path, signed = noted.popitem()
        found[path] = signed
    return found


def imported(module: ModuleType) -> None:
    """Note its file, where another loader than ours has read it."""
    file = getattr(module, "__file__", None)
    if file and file not in noted:
        _note(module.__name__, file, signature(file))


def missed(name: str | None) -> None:
    """It could not be found: note where it may appear."""
    for folder in _folders if name else ():
        place = os.path.join(folder, *str(name).split("."))
        for file in (f"{place}.py", os.path.join(place, "__init__.py")):
            noted.setdefault(file, signature(file))


def signature(file: str) -> Signature:
    """Of a file as it is now."""
    try:
        return _signed(os.stat(file))
    except (OSError, ValueError):  # a job may have told anything for a path
        return None


class SourceLoader(SourceFileLoader):
    """Python's own, but for compiled files that may be outdated, which it neither reads nor writes."""

    def path_stats(self, path: str) -> Mapping[str, float]:
        """What Python compares with the compiled file; asked right before the source is read."""
        found = os.stat(path)
        _note(self.name, path, _signed(found))
        if _may_deceive(path, int(found.st_mtime)):
            raise OSError("a compiled file and its source are of the same second")
        return {"mtime": found.st_mtime, "size": found.st_size}


def _signed(found: os.stat_result) -> Signature:
    return [found.st_mtime_ns, found.st_size]


def _note(name: str, path: str, signed: Signature) -> None:
    is_below = any(path.startswith(folder) for folder in _folders) and not any(one in path for one in _INSTALLED)
    if is_below or name.partition(".")[0] in _packages:
        noted[path] = signed


def _may_deceive(path: str, second: int) -> bool:
    """Whether the source may be saved once more in the second that a compiled file has noted, or has been."""
    if int(time.time()) == second:
        return True
    with contextlib.suppress(OSError, NotImplementedError):
        return int(os.stat(cache_from_source(path)).st_mtime) == second
    return False
