"""An application object for the tests of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.app import App

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app() -> Iterator[App]:
    """The application object of a command; what it started is ended."""
    made = App(["env", "test"])
    made.console.quiet = True
    yield made
    made.runner.end_all()
