"""What is drawn over the picture of the fluids: the partition of the method at work."""

from __future__ import annotations

import numpy as np
from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.session import Session

LINE_ALPHA = 0.55


def draw_leaves(session: Session, rectangle: tuple[float, float, float, float]) -> None:
    """The borders of all leaves over the picture at ``rectangle`` (left, top, width, height), in the current
    window, where somebody asked for them.
    """
    inspector = session.inspector
    labels = inspector.labels if inspector.shown and inspector.all_leaves else None
    if labels is None or labels.shape != session.shown.shape:
        return
    left, top, width, height = rectangle
    scale_x, scale_y = width / labels.shape[0], height / labels.shape[1]
    canvas, colour = imgui.get_window_draw_list(), theme.packed(theme.LEAF, LINE_ALPHA)
    for x0, y0, x1, y1 in borders(labels).tolist():
        begin = left + scale_x * x0, top + height - scale_y * y0
        canvas.add_line(begin, (left + scale_x * x1, top + height - scale_y * y1), colour)


def borders(labels: np.ndarray) -> np.ndarray:
    """Where ``labels`` (nx, ny) of neighbouring cells differ: (n, 4) int64, straight segments from (x, y) to
    (x, y), in cells, as long as can be.
    """
    upright = _runs(labels[1:] != labels[:-1])  # (line, first, end): x - 1 and two y
    level = _runs((labels[:, 1:] != labels[:, :-1]).T)
    x, y = upright[:, 0] + 1, level[:, 0] + 1
    return np.concatenate(
        [
            np.stack([x, upright[:, 1], x, upright[:, 2]], axis=1),
            np.stack([level[:, 1], y, level[:, 2], y], axis=1),
        ]
    )


def _runs(marked: np.ndarray) -> np.ndarray:
    """The runs of True in every row of a matrix, (n, 3) int64: row, first column, column after the last."""
    edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(edges == 1)
    return np.stack([rows, first, np.nonzero(edges == -1)[1]], axis=1)
