"""Run the examples of changed docstrings, as a documentation job does; with the standard library alone.

``python examples.py LIST``: the file is JSON, ``[{"file", "module", "name", "line", "text"}]``. An answer is a line on
standard output, after the word EXAMPLE: ``{"file", "name", "line", "ran", "failed", "said"}``.
"""

from __future__ import annotations

import doctest
import importlib
import io
import json
import sys
from typing import Any

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SKIPPED = ("REQUIRES(env:", "+SKIP", "xdoctest: +SKIP")


def names_of(module: str) -> dict[str, Any]:
    """Return the names that an example may use without importing them: its module's, where that can be imported."""
    try:
        return dict(vars(importlib.import_module(module)))
    except Exception:  # noqa: BLE001 - an example may well import what it needs
        return {"__name__": "__main__"}


def main(path: str) -> None:
    """Run every example of the list."""
    with open(path, encoding="utf-8") as file:
        wanted = json.load(file)
    parser = doctest.DocTestParser()
    for each in wanted:
        text = each["text"]
        answer = {key: each[key] for key in ("file", "name", "line")}
        if any(mark in text for mark in SKIPPED):
            answer.update(ran=0, failed=0, said="skipped: it needs what is not here")
        else:
            said = io.StringIO()
            try:
                test = parser.get_doctest(text, names_of(each["module"]), each["name"], each["file"], each["line"])
                runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
                result = runner.run(test, out=said.write)
                answer.update(ran=result.attempted, failed=result.failed, said=said.getvalue()[-2000:])
            except ValueError as error:
                answer.update(ran=0, failed=1, said=str(error))
        sys.stdout.write(f"EXAMPLE {json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
