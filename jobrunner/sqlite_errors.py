"""What SQLite's errors are called: sentences for people, and classes of ours."""

from pathlib import Path

import apsw

from jobrunner.errors import (
    DatabaseBroken,
    DatabaseBusy,
    ForeignDatabase,
    JobRunnerError,
    NotAllowed,
    NotSerializable,
    NotWritten,
    UsageError,
)

_DAMAGES = (apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA)
"""I/O errors that no second try mends."""
TOLD = (apsw.Error, UnicodeError, OverflowError)
"""What `told` has sentences for."""


def told(path: Path) -> "_Telling":
    """Say SQLite's errors in sentences, for a `with` block."""
    return _Telling(path)


class _Telling:
    # Not a generator: it stands around many a statement, and would cost what a small one does.
    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and (known := _known(self._path, error)) is not None:
            raise known from error


def _known(path: Path, error: BaseException) -> JobRunnerError | None:
    if isinstance(error, apsw.Error):
        return _of_sqlite(path, error)
    if isinstance(error, UnicodeEncodeError):
        return NotSerializable("a text contains a lone surrogate, which cannot be kept")
    if isinstance(error, UnicodeDecodeError):
        return DatabaseBroken(f"{path}: a text in it is not UTF-8, and cannot be read: {error}")
    return (
        UsageError("a number is larger than 64 bits, and cannot be kept") if isinstance(error, OverflowError) else None
    )


def _of_sqlite(path: Path, error: apsw.Error) -> JobRunnerError | None:
    match error:
        case apsw.BusyError():
            return DatabaseBusy(f"{path}: another process holds the write lock")
        case apsw.NotADBError():
            return ForeignDatabase(f"{path} is not a SQLite database, and is left as it is")
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return NotAllowed(f"{path} cannot be written: {error}")
        case apsw.FullError() | apsw.IOError() if getattr(error, "extendedresult", 0) not in _DAMAGES:
            return NotWritten(f"{path} cannot be read or written: {error}")
        case apsw.ConstraintError() | apsw.MismatchError():
            return UsageError(str(error))
    sentence = _BROKEN.get(type(error))
    return None if sentence is None else DatabaseBroken(f"{path}{sentence.format(error)}")


_SEE_DOCTOR = ": `jobrunner doctor` tells more"
_BROKEN = {
    apsw.CorruptError: " is damaged ({})" + _SEE_DOCTOR,
    apsw.IOError: " is damaged ({})" + _SEE_DOCTOR,
    apsw.CantOpenError: ": {}",
    apsw.SQLError: ": its schema was changed ({})" + _SEE_DOCTOR,
}
