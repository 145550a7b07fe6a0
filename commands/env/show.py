"""Show one environment: its Python, its Paddle and why that one, and what it takes on the disk.

Example:  devkit env show .venv
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import Json
from devkit.commands.env._options import Name
from devkit.text import local_time, size, zone

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.engine import Seen


def command(ctx: typer.Context, *, name: Name = ".venv", as_json: Json = False) -> None:
    from devkit.envs import containers, store
    from devkit.envs.manage import folder_of, look

    app: App = ctx.obj
    inside = containers.look_up(name)
    if inside:
        _show_container(app, inside[1], as_json=as_json)
        return
    seen = look(name, folder_of(name, Path.cwd()))
    record = seen.record
    packages = store.site_packages(seen.folder)
    facts = {
        "name": seen.name,
        "state": seen.state,
        "folder": str(seen.folder),
        "python": seen.python,
        "interpreter": str((seen.folder / "bin" / "python").resolve()),
        "paddle": ", ".join(seen.paddles) or "none",
        "reason": record.reason if record else "",
        "packages": len(list(packages.glob("*.dist-info"))) if packages else 0,
        "bytes": store.own_size(seen.folder),
        "device_side": bool(packages and (packages / store.DEVICE_SIDE).is_file()),
        "record": asdict(record) if record else None,
    }
    if as_json:
        app.console.json(facts)
        return
    proof = record.proof if record else None
    lines = {
        "name": f"{seen.name}, {seen.state}",
        "folder": str(seen.folder),
        "python": f"{seen.python} from {facts['interpreter']}",
        "paddle": f"{facts['paddle']}" + (f" ({facts['reason']})" if facts["reason"] else ""),
        "packages": f"{facts['packages']}, {size(store.own_size(seen.folder))} beyond what uv's cache shares",
        "devkit": "its device side is in" if facts["device_side"] else "its device side is not in it",
        "made": (f"{_when(record.created)}{' (adopted)' if record.adopted else ''}") if record else "",
        "checked": f"1 + 1 on {proof['device']}, matmul {proof['matmul_gflops']:.3g} GFLOP/s" if proof else "",
    }
    for label, text in lines.items():
        if text:
            app.console.answer_parts((f"  {label.ljust(9)} ", "dim"), (text, ""))


def _when(created: str) -> str:
    return f"{local_time(created)} {zone(created)}"


def _show_container(app: App, seen: Seen, *, as_json: bool) -> None:
    from devkit.envs import engine
    from devkit.envs.container import SOURCE

    lost = engine.unsaved(seen, engine.me())
    facts = {
        "name": seen.name,
        "state": seen.state,
        "container": seen.raw.name,
        "image": seen.image,
        "reason": seen.reason,
        "project": seen.project,
        "network": seen.network,
        "created": seen.created,
        "unsaved": lost,
    }
    if as_json:
        app.console.json(facts)
        return
    sources = seen.mounts if seen.adopted else [(seen.project, SOURCE)]
    lines = {
        "name": f"{seen.name}, a container, {seen.state}",
        "container": facts["container"],
        "image": f"{seen.image} ({seen.reason})",
        "source": ", ".join(f"{here} is {there} inside" for here, there in sources[:3]) + (" …" if sources[3:] else ""),
        "network": seen.network,
        "made": _when(seen.created),
        "unsaved": ", ".join(lost[:8]) + (" …" if len(lost) > 8 else "") if lost else "nothing",  # noqa: PLR2004 - a line
    }
    for label, text in lines.items():
        app.console.answer_parts((f"  {label.ljust(9)} ", "dim"), (str(text), ""))
