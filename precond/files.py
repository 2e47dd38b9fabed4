"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``, a text as UTF-8; never half a file under the real name. Raises OSError
    and leaves what was there.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
