from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.devkit.transfer.conftest import FarSide, tree

if TYPE_CHECKING:
    from tests.conftest import Devkit

pytest_plugins: list[str] = []
