"""The video of a recording."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from precond.errors import UsageError


class Video:
    """An mp4 in simulated time, ``speed`` seconds of it a second, playable up to its last second even when
    the program was killed.

    Raises UsageError where there is no ffmpeg, and OSError when a picture cannot be written.
    """

    def __init__(self, fps: float, speed: float = 1.0) -> None:
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise UsageError("--video needs ffmpeg: pip install 'htp-fluid[video]'") from None
        self._fps = fps
        self._speed = speed
        self._time = 0.0  # simulated seconds shown, which go on when the simulation is reset
        self._pictures = 0
        self._stream: Generator[None, Any, None] | None = None
        self._size = (0, 0)

    def show(self, path: Path, time_step: float, picture: Callable[[], np.ndarray]) -> None:
        """Add pictures up to the end of a frame that took ``time_step`` simulated seconds."""
        self._time += time_step
        due = 1 + int(self._time * self._fps / self._speed + 1e-9) - self._pictures
        if due <= 0:
            return
        pixels = np.ascontiguousarray(picture()[..., :3])
        if self._stream is None:
            self._open(path, pixels.shape[1], pixels.shape[0])
        if pixels.shape[1::-1] != self._size:
            pixels = np.asarray(Image.fromarray(pixels).resize(self._size, Image.Resampling.NEAREST))
        for _ in range(due):
            self._stream.send(pixels)
        self._pictures += due

    def _open(self, path: Path, width: int, height: int) -> None:
        from imageio_ffmpeg import write_frames

        self._size = (width + width % 2, height + height % 2)  # the format has no odd sizes
        self._stream = write_frames(
            str(path),
            self._size,
            fps=self._fps,
            macro_block_size=2,
            quality=8,
            ffmpeg_log_level="error",
            output_params=["-movflags", "frag_keyframe+empty_moov", "-g", str(round(self._fps))],
        )
        self._stream.send(None)

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._stream.close()
