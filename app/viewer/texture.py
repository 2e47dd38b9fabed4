"""The picture on the graphics card: one texture, updated in place."""

from __future__ import annotations

import numpy as np
from imgui_bundle import imgui


class Texture:
    """An RGBA texture that takes a new image every frame; a new one is made only when the size changes."""

    def __init__(self) -> None:
        self._data: imgui.ImTextureData | None = None
        self._retired: list[imgui.ImTextureData] = []

    def show(self, rgba: np.ndarray) -> imgui.ImTextureRef:
        """Put a (height, width, 4) uint8 image, row 0 on top, into the texture; returns what to draw."""
        self._bury()
        height, width = rgba.shape[:2]
        data = self._data
        if data is None or (data.width, data.height) != (width, height):
            if data is not None:
                self._retired.append(data)
                data.want_destroy_next_frame = True  # else the renderer makes it again
                data.set_status(imgui.ImTextureStatus.want_destroy)
                data.unused_frames = 1  # the renderer frees a texture only when it is out of use
            data = self._data = imgui.ImTextureData()
            data.create(imgui.ImTextureFormat.rgba32, width, height)
            data.use_colors = True
            imgui.internal.register_user_texture(data)
        data.get_pixels_array().reshape(-1)[:] = rgba.reshape(-1)
        if data.status == imgui.ImTextureStatus.ok:
            rectangle = imgui.ImTextureRect()
            rectangle.x, rectangle.y, rectangle.w, rectangle.h = 0, 0, width, height
            data.update_rect = data.used_rect = rectangle
            data.updates.clear()
            data.updates.push_back(rectangle)
            data.set_status(imgui.ImTextureStatus.want_updates)
        return data.get_tex_ref()

    def _bury(self) -> None:
        """Let go of old textures that the renderer has freed."""
        for data in [old for old in self._retired if old.status == imgui.ImTextureStatus.destroyed]:
            imgui.internal.unregister_user_texture(data)
            self._retired.remove(data)
