"""The columns of a progress line, as many as a terminal's width holds; imported where a line is drawn."""

from __future__ import annotations

from rich import progress
from rich.table import Column
from rich.text import Text

from devkit.text import size

BAR_FROM = 76
RATE_FROM = 56


class Words(progress.TextColumn):
    """What the line says, cut off where the terminal is too narrow, and never a second line."""

    def __init__(self) -> None:
        super().__init__("{task.description}", markup=False, table_column=Column())

    def render(self, task: progress.Task) -> Text:
        """Return the task's words."""
        words = super().render(task)
        words.no_wrap, words.overflow = True, "ellipsis"
        return words


class Rate(progress.ProgressColumn):
    """Bytes a second, in the units of all other sizes."""

    def render(self, task: progress.Task) -> Text:
        """Return the task's rate."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size(speed)}/s", style="progress.data.speed", no_wrap=True)


def columns(
    width: int, *, spinner: str, counted: bool, in_bytes: bool, bar_width: int = 24
) -> list[progress.ProgressColumn]:
    """Return the columns of a line.

    Args:
        width: of the terminal, in letters.
        spinner: rich's name of the spinner.
        counted: whether there is a total to count to.
        in_bytes: whether bytes are counted.
        bar_width: of the bar, in letters.
    """
    found: list[progress.ProgressColumn] = [progress.SpinnerColumn(spinner_name=spinner, finished_text=" "), Words()]
    if counted and width >= BAR_FROM:
        found.append(progress.BarColumn(bar_width=bar_width))
    if counted and in_bytes:
        found.append(progress.DownloadColumn(binary_units=True, table_column=_whole()))
    elif counted:
        found.append(progress.MofNCompleteColumn(table_column=_whole()))
    if in_bytes and width >= RATE_FROM:
        found.append(Rate(table_column=_whole()))
    last = progress.TimeRemainingColumn if counted else progress.TimeElapsedColumn
    return [*found, last(table_column=_whole())]


def _whole() -> Column:
    return Column(no_wrap=True)
