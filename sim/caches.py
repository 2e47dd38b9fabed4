"""Where compiled code is kept: where the platform keeps caches, or in a temporary directory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import platformdirs


def can_be_written(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which is made where it is missing."""
    try:
        _try(folder)
    except OSError:
        return False
    return True


def _try(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def cache_folder(name: str) -> tuple[Path, bool]:
    """The platform's folder for our cache ``name``, or, as one line on stderr then says, a temporary one; and
    whether it is such a one, which the caller removes. Raises OSError where nothing can be written.
    """
    folder = Path(platformdirs.user_cache_dir("htp-fluid")) / name
    try:
        if not folder.is_absolute():
            raise OSError("no home directory")
        _try(folder)
    except OSError as error:
        spare = Path(tempfile.mkdtemp(prefix="htp-fluid-"))
        reason = error.strerror or error
        if sys.stderr is not None:
            print(f"htp-fluid: {folder}: {reason}; compiled code is kept in {spare}", file=sys.stderr)
        return spare, True
    return folder, False
