"""A new operator in a tree of Paddle: new files, and entries in files that are there, at that tree's places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.ops.rendering import render
from devkit.ops.tree import YAML, parse_entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORWARD = """- op : {name}
  args : (Tensor x, Tensor y, float alpha = 1.0f)
  output : Tensor(out)
  infer_meta :
    func : ElementwiseInferMeta
    param : [x, y]
  kernel :
    func : {name}
    data_type : x
  backward : {name}_grad
"""
BACKWARD = """- backward_op : {name}_grad
  forward : {name} (Tensor x, Tensor y, float alpha = 1.0f) -> Tensor(out)
  args : (Tensor x, Tensor y, Tensor out_grad, float alpha = 1.0f)
  output : Tensor(x_grad), Tensor(y_grad)
  infer_meta :
    func : GeneralBinaryGradInferMeta
    param : [x, y]
  kernel :
    func : {name}_grad
    data_type : x
"""
API = '''

def {name}(
    x: Tensor,
    y: Tensor,
    alpha: float = 1.0,
    name: str | None = None,
) -> Tensor:
    """
    Gate ``x`` by ``y``: ``x * sigmoid(alpha * y)``.

    Args:
        x (Tensor): The values; float32 or float64.
        y (Tensor): What decides how much of them goes through; of the shape and the dtype of ``x``.
        alpha (float, optional): How steep the gate is. Default: 1.0.
        name (str|None, optional): For details, please refer to :ref:`api_guide_Name`. Generally, no setting is
            required. Default: None.

    Returns:
        Tensor, of the shape and the dtype of ``x``.

    Examples:
        .. code-block:: python

            >>> import paddle
            >>> from paddle.tensor.math import {name}
            >>> {name}(paddle.ones([2]), paddle.zeros([2])).tolist()
            [0.5, 0.5]
    """
    if in_dynamic_or_pir_mode():
        return _C_ops.{name}(x, y, alpha)
    raise NotImplementedError('the old static graph has no such operator')
'''
API_FILE = "python/paddle/tensor/math.py"


@dataclass(frozen=True)
class Edit:
    """A file of the tree, and what it will hold."""

    path: Path
    text: str
    verb: Literal["write", "edit"]
    what: str


def insert_entry(text: str, name: str, entry: str) -> str:
    """Return a YAML file of operators with one more entry, before the first whose name comes after it."""
    rows = text.split("\n")
    following = next((entry for entry in parse_entries(text, "") if entry.name > name), None)
    place = following.first - 1 if following else len(rows)
    while place and rows[place - 1].lstrip().startswith("#") and following:
        place -= 1
    new = entry.rstrip("\n").split("\n")
    if following is None:
        while rows and not rows[-1].strip():
            rows.pop()
        return "\n".join([*rows, "", *new, ""])
    return "\n".join([*rows[:place], *new, "", *rows[place:]])


def plan(root: Path, name: str) -> Sequence[Edit]:
    """Return what will be written into a tree.

    Raises:
        DevkitError: the tree's places are not known, or it has such an operator.
    """
    folder = next((root / place for place in YAML if (root / place / "backward.yaml").is_file()), None)
    if folder is None:
        raise DevkitError(
            f"{root} has no operators' YAML files where they are known to be", f"Looked for in {', '.join(YAML)}."
        )
    forward, backward = folder / "ops.yaml", folder / "backward.yaml"
    texts = {path: path.read_text("utf-8") for path in (forward, backward)}
    for path, text in texts.items():
        taken = [entry for entry in parse_entries(text, path.name) if entry.name in {name, f"{name}_grad"}]
        if taken:
            raise DevkitError(f"there is an operator {name}", f"{path}:{taken[0].first}", f"devkit op show {name}")
    words = {"name": name}
    entries = (FORWARD.format(**words), BACKWARD.format(**words))
    edits = [
        Edit(forward, insert_entry(texts[forward], name, entries[0]), "edit", "the operator's entry"),
        Edit(backward, insert_entry(texts[backward], f"{name}_grad", entries[1]), "edit", "its gradient's entry"),
    ]
    api = root / API_FILE
    held = api.read_text("utf-8")
    if re.search(rf"^def {name}\(", held, re.MULTILINE):
        raise DevkitError(f"{API_FILE} has a function {name}", "")
    edits.append(Edit(api, held.rstrip("\n") + "\n" + API.format(**words), "edit", "the Python API"))
    camel = "".join(word.capitalize() for word in name.split("_"))
    for new_file in render("op_in_tree", root, name=name, camel=camel):
        if new_file.path.exists():
            raise DevkitError(f"{new_file.path} is there already", "Nothing was written.")
        edits.append(Edit(new_file.path, new_file.text, "write", "new"))
    return edits


def execute(edits: Sequence[Edit]) -> None:
    """Write what was planned."""
    for edit in edits:
        mode = edit.path.stat().st_mode & 0o777 if edit.verb == "edit" else 0o644
        write_atomically(edit.path, edit.text.encode(), mode=mode)
