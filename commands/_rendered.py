"""Writing the files of a template, or printing what would be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.ops.rendering import NewFile


def write(app: App, files: list[NewFile], *, dry_run: bool, as_json: bool) -> bool:
    """Write files, none of which may be there; return whether that was done: with ``dry_run`` it is only planned.

    Raises:
        DevkitError: one is there, or cannot be written.
    """
    from devkit.ops import rendering

    rendering.check_new(files)
    if dry_run:
        app.console.plan([f"write {file.path}" for file in files])
        return False
    rendering.write(files)
    if as_json:
        app.console.json(rendering.outcome(files))
    return True
