"""The tab that explains the method at work: what one application of M does, and what CG saw of M A."""

from __future__ import annotations

import math

import numpy as np
from imgui_bundle import imgui, implot

from app.picture import SOLID_COLOUR, Scale, colour_table, nice_ceiling
from app.race.lane import count
from app.race.study import ERRORS, Lesson
from app.viewer import axes, theme
from app.viewer.axes import Axis
from app.viewer.canvas import Texture, draw_colour_bar
from app.viewer.partition_picture import SIGNED_COLOURS
from app.viewer.session import Session

BAR_SPACE, GAP = 70.0, 10.0
LEAST_HEIGHT, PLOT_WIDTH = 100.0, 260.0
CHOICES = {"random": "random", "start": "of the start"}


class MethodPanel:
    """Draws a session's lesson. ``pictures``: before and after, (2, ny, nx, 4) uint8, as drawn last; None
    without a lesson.
    """

    def __init__(self) -> None:
        self.pictures: np.ndarray | None = None
        self._texture = Texture()
        self._of: Lesson | None = None

    def draw(self, session: Session) -> None:
        """Draw into the current window."""
        lessons, lesson = session.beside.lessons, session.beside.lessons.lesson
        imgui.begin_child("method", (0.0, 0.0))
        imgui.align_text_to_frame_padding()
        imgui.text("error:")
        for error, label in CHOICES.items():
            imgui.same_line()
            if imgui.radio_button(label, lessons.error == error):
                lessons.error = error
            imgui.set_item_tooltip(ERRORS[error])
        if lesson is None:
            self.pictures = None
            theme.say(lessons.reason)
        else:
            imgui.same_line()
            theme.say(f"{lesson.method}, frame {lesson.frame:,}, set up anew beside the window")
            theme.say(_what_m_does(lesson), theme.TEXT)
            theme.say(_what_cg_saw(lesson), theme.TEXT)
            height = max(imgui.get_content_region_avail().y, theme.scaled(LEAST_HEIGHT))
            imgui.begin_child("lesson", (0.0, height), 0, imgui.WindowFlags_.horizontal_scrollbar)
            self._draw_lesson(lesson, session.shown.solid_mask())
            imgui.end_child()
        imgui.end_child()

    def _draw_lesson(self, lesson: Lesson, solid: np.ndarray) -> None:
        """Two pictures, their colours and the Ritz values, side by side."""
        if self._of is not lesson:
            self._of, self.pictures = lesson, _pictures(lesson, solid)
        space, corner = imgui.get_content_region_avail(), imgui.get_cursor_screen_pos()
        height = space.y
        line, gap = imgui.get_text_line_height(), theme.scaled(GAP)
        _, rows, columns, _ = self.pictures.shape
        room = max(space.x - theme.scaled(PLOT_WIDTH + BAR_SPACE) - 3.0 * gap, theme.scaled(260.0))
        scale = min(0.5 * room / columns, (height - 1.4 * line) / rows)
        width, tall = scale * columns, scale * rows
        canvas, texture = (
            imgui.get_window_draw_list(),
            self._texture.show(self.pictures.reshape(-1, columns, 4)),
        )
        titles = "before", f"after: {lesson.correction.left:.0%}"
        step = max(width, *(imgui.calc_text_size(title).x for title in titles)) + gap
        for number, title in enumerate(titles):
            x, y = corner.x + number * step, corner.y + 1.3 * line
            theme.write(canvas, x, corner.y, title, theme.MUTED)
            part = (0.0, 0.5 * number), (1.0, 0.5 * (number + 1))
            canvas.add_image(texture, (x, y), (x + width, y + tall), *part)
        bar_at = corner.x + 2.0 * step
        draw_colour_bar(canvas, SIGNED_COLOURS, _scale(lesson), "", bar_at, corner.y, tall)
        plot_at = bar_at + theme.scaled(BAR_SPACE)
        imgui.dummy((plot_at - corner.x, height))  # the pictures' room
        imgui.set_cursor_screen_pos((plot_at, corner.y))
        size = (max(corner.x + space.x - plot_at, theme.scaled(PLOT_WIDTH)), height)
        if len(lesson.ritz) and implot.begin_plot(
            "Ritz values", size, axes.PLOT_FLAGS | implot.Flags_.no_legend
        ):
            _plot_ritz(lesson.ritz, size)
            implot.end_plot()


def _plot_ritz(values: np.ndarray, size: tuple[float, float]) -> None:
    """The share of the values up to each one: a step where many lie together."""
    share = 100.0 * (np.arange(len(values)) + 1.0) / len(values)
    limits = axes.decades(0.8 * float(values[0]), 1.25 * float(values[-1]))
    axes.setup(Axis("eigenvalue of M A", *limits, True), Axis("% up to there", 0.0, 105.0), size)
    marker = implot.Spec(marker=implot.Marker_.circle, marker_size=3.0)
    marker.marker_line_color = marker.marker_fill_color = imgui.ImVec4(*theme.ACCENT)
    implot.plot_scatter("##ritz", values, share, marker)
    implot.plot_inf_lines("##one", np.array([1.0]), implot.Spec(line_color=theme.MUTED))


def _what_m_does(lesson: Lesson) -> str:
    left = lesson.correction.left
    does = (
        "what is left is what the iterations still have to do"
        if left > 0.01
        else "next to nothing is left for the iterations to do"
    )
    error = ERRORS[lesson.error]
    return f"One application of {lesson.method} leaves {left:.1%} of {error} (in energy norm): {does}."


def _what_cg_saw(lesson: Lesson) -> str:
    if not len(lesson.ritz):
        return f"No Ritz values: {lesson.why_no_ritz}."
    low, high = float(lesson.ritz[0]), float(lesson.ritz[-1])
    condition = high / low
    factor = (math.sqrt(condition) - 1.0) / (math.sqrt(condition) + 1.0)
    return (
        f"In {count(len(lesson.ritz), 'iteration')} the last solve saw the eigenvalues of M A reach from "
        f"{low:.3g} to {high:.3g}; the closer they lie together the fewer iterations: spread this far, "
        f"one leaves at worst about {factor:.0%} of the error."
    )


def _scale(lesson: Lesson) -> Scale:
    reach = nice_ceiling(float(np.abs(lesson.correction.before).max()))
    return Scale(-reach, reach)


def _pictures(lesson: Lesson, solid: np.ndarray) -> np.ndarray:
    """Both errors in diverging colours, solids as in the field, (2, ny, nx, 4) uint8, row 0 on top."""
    fields = np.stack([lesson.correction.before, lesson.correction.after])  # (2, nx, ny)
    pixels = colour_table(SIGNED_COLOURS)[_scale(lesson).levels(fields)][..., None].view(np.uint8)
    if solid.shape == fields.shape[1:]:  # else of a grid that is no more
        pixels[:, solid, :3] = SOLID_COLOUR
    return np.ascontiguousarray(pixels.swapaxes(1, 2)[:, ::-1])
