"""All checks at once: the facts are gathered in threads, so that the whole takes little longer than Paddle's probe."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.doctor import engine, gpu, machine, network, paddle, place, proxy, tools
from devkit.doctor.finding import Finding
from devkit.envs.resolve import own, resolve
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.envs.resolve import Environment

SINGLE_TOOLS = [tool.name for tool in tools.TOOLS if not tool.name.endswith("++")]
THREADS = 8


def examine(app: App, environment_name: str = "") -> list[Finding]:
    """Gather all facts and return the findings in the order of the screen.

    Raises:
        DevkitError: there is no environment of this name.
    """
    environment, unusable = environment_of(app, environment_name)
    prefix = environment.python.parent.parent
    environ, bypass = app.child_environment(), app.config.get("proxy.bypass")
    with tempfile.TemporaryDirectory(prefix="devkit-doctor-") as name:
        gathered = _all_at_once(
            app,
            {
                "paddle": lambda: paddle.gather(app, environment, Path(name)),
                "python": lambda: paddle.gather_python(app, environment),
                "proxy": lambda: proxy.gather(environ, bypass),
                "engine": engine.gather,
                "compilers": lambda: tools.gather_compilers(app.runner),
                **{tool: partial(tools.gather, app.runner, tool) for tool in SINGLE_TOOLS},
                "CUDA": lambda: gpu.gather_toolkit(app.runner),
                **{library[0]: partial(gpu.gather_library, *library, prefix) for library in (gpu.CUDNN, gpu.NCCL)},
                "cards": gpu.gather_cards,
                "processor": machine.gather_processor,
                "memory": machine.gather_memory,
                "disks": machine.gather_disks,
                "limits": machine.gather_limits,
                "network": network.gather,
                "place": partial(place.gather, app.runner),
            },
        )
    return [*judge(gathered), *unusable]


def environment_of(app: App, name: str) -> tuple[Environment, list[Finding]]:
    """Return the environment to look at: devkit's own, and a finding, where this place's cannot be used.

    Raises:
        DevkitError: there is no environment of this name.
    """
    try:
        return resolve(app.config, name), []
    except DevkitError as error:
        if name:
            raise
        remedy, more = next(iter(error.remedies), ""), error.remedies[1:]
        return own(), [Finding("environment", error.what, "broken", error.why, remedy, more)]


def _all_at_once(app: App, gatherers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    pool = ThreadPoolExecutor(THREADS)
    try:
        futures = {name: pool.submit(gatherer) for name, gatherer in gatherers.items()}
        return {name: future.result() for name, future in futures.items()}
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        app.runner.end_all()
        raise
    finally:
        pool.shutdown()


def judge(facts: dict[str, Any]) -> list[Finding]:
    """Turn what was gathered, by name, into findings."""
    gpus = bool(facts["cards"].gpus or facts["cards"].on_bus)
    mkl = paddle.check_mkl(facts["processor"], facts["paddle"])
    return [
        machine.check_processor(facts["processor"]),
        machine.check_memory(facts["memory"]),
        *place.check(facts["place"]),
        *machine.check_disks(facts["disks"]),
        machine.check_open_files(facts["limits"]),
        machine.check_shm(facts["limits"]),
        paddle.check_python(facts["python"]),
        paddle.check(facts["paddle"]),
        *([mkl] if mkl else []),
        *gpu.check_cards(facts["cards"]),
        *(gpu.check_library(facts[name], gpus=gpus) for name in ("CUDA", "cuDNN", "NCCL")),
        tools.check_compilers(facts["compilers"]),
        *(tools.check(facts[tool]) for tool in SINGLE_TOOLS),
        engine.check(facts["engine"]),
        *proxy.check(facts["proxy"]),
        network.check_addresses(facts["network"]),
        network.check_ranks(facts["network"]),
    ]
