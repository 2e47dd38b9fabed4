"""What is drawn over the picture of the fluids: the partition of the method at work."""

from __future__ import annotations

from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.partition_picture import borders
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
