"""Paddle in an environment: its version, its device, and a computation that proves it."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit import mkl
from devkit.doctor.finding import Finding
from devkit.errors import DevkitError
from devkit.text import significant

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App
    from devkit.doctor.machine import Processor
    from devkit.envs.resolve import Environment

OWN = "devkit's own"  # what the Python that runs devkit is called
MKL_VARIABLE = mkl.VARIABLE
LIMIT_S = 60.0
PYTHON_LIMIT_S = 10.0
MKL_GAIN = 1.1
PYTHON_FACTS = (
    "import os, platform, sysconfig; print(platform.python_version(),"
    " os.path.isfile(os.path.join(sysconfig.get_path('include'), 'Python.h')), sep='\\n')"
)


@dataclass(frozen=True)
class Python:
    """An environment's Python: its version, and whether C++ can be compiled against it."""

    environment: str
    path: str
    version: str = ""
    headers: bool = False
    complaint: str = ""


@dataclass(frozen=True)
class Proof:
    """What the probe answered, or why it did not.

    Attributes:
        slow_gflops: the product's speed without MKL's fast path.
        absent: whether there is no Paddle in the Python that runs devkit, which is looked at where nothing is chosen.
        others: the environments that could be chosen.
    """

    environment: str
    answer: dict[str, Any] | None = None
    error: DevkitError | None = None
    slow_gflops: float | None = None
    mkl: str | None = None
    absent: bool = False
    others: tuple[str, ...] = ()


def gather_python(app: App, environment: Environment) -> Python:
    """Ask the environment's Python."""
    path = str(environment.python)
    if environment.container:
        return _python_inside(environment)
    try:
        done = app.runner.run([path, "-I", "-c", PYTHON_FACTS], timeout_s=PYTHON_LIMIT_S)
        version, headers = done.text.splitlines()
    except (DevkitError, ValueError) as error:
        return Python(environment.name, path, complaint=str(error))
    return Python(environment.name, path, version, headers == "True")


def _python_inside(environment: Environment) -> Python:
    """Ask a container's Python."""
    from devkit.envs import containers, engine

    try:
        _, seen = containers.need(environment.container)
        with engine.explained(environment.name):
            status, said = engine.ready(seen).exec_run(["python3", "-I", "-c", PYTHON_FACTS])
        text = said.decode(errors="replace").strip()
        if status:
            return Python(environment.name, "python3", complaint=text.splitlines()[-1] if text else "it does not run")
        version, headers = text.splitlines()
    except (DevkitError, ValueError) as error:
        return Python(environment.name, "python3", complaint=str(error))
    return Python(environment.name, "python3", version, headers == "True")


def gather(app: App, environment: Environment, folder: Path) -> Proof:
    """Run the probe in the environment and, on an AMD processor, a second one without MKL's fast path.

    Both import Paddle at once, then compute in turn, so that neither disturbs the other's speed.

    Args:
        app: whose runner starts them.
        environment: whose Paddle is proved.
        folder: where their logs go.
    """
    from devkit.envs.resolve import names
    from devkit.launch import Worker, device_environment

    if environment.name == OWN and importlib.util.find_spec("paddle") is None:
        return Proof(environment.name, absent=True, others=tuple(names()))
    try:
        environ = device_environment(app, python=None if environment.container else environment.python)
    except DevkitError as error:
        return Proof(environment.name, error=error)
    variants = [environ]
    if MKL_VARIABLE in environ:
        variants.append({name: value for name, value in environ.items() if name != MKL_VARIABLE})
    with contextlib.ExitStack() as stack:
        try:
            workers = [
                stack.enter_context(
                    Worker(app, environment, "probe", folder=folder, name=f"probe{number}", environ=variant)
                )
                for number, variant in enumerate(variants)
            ]
            with ThreadPoolExecutor(len(workers)) as pool:
                first, *_ = pool.map(_ask, workers)
            if len(workers) == 1 or not str(first["device"]).startswith("cpu"):
                return Proof(environment.name, first, mkl=environ.get(MKL_VARIABLE))
            answer, slow = (_ask(worker) for worker in workers)
        except DevkitError as error:
            return Proof(environment.name, error=error)
    return Proof(environment.name, answer, slow_gflops=slow["matmul_gflops"], mkl=environ[MKL_VARIABLE])


def _ask(worker: Any) -> dict[str, Any]:
    limit = threading.Timer(LIMIT_S, worker.end)
    limit.daemon = True
    limit.start()
    try:
        answer: dict[str, Any] = worker.ask({"do": "probe"}, "probe")
    finally:
        limit.cancel()
    return answer


def check_python(facts: Python) -> Finding:
    """Judge the environment's Python."""
    if facts.complaint:
        text = f"{facts.path} of {facts.environment}"
        return Finding("Python", text, "broken", facts.complaint, f"devkit env show {facts.environment}")
    text = f"{facts.version} in {facts.environment}"
    if not facts.headers:
        why = "without its headers devkit's CPU kernels cannot be compiled"
        return Finding("Python", text, "warning", why, "apt install python3-dev")
    return Finding("Python", text)


def check(facts: Proof) -> Finding:
    """Judge Paddle by what it computed."""
    if facts.absent:
        text, create = "none here: no environment is chosen", "devkit env create   makes one with Paddle in it"
        if not facts.others:
            return Finding("Paddle", text, "broken", "and devkit's own Python has none", create)
        choose = (f"devkit doctor --env {name}" for name in facts.others[:3])
        return Finding("Paddle", text, "warning", "", "devkit env list   names those that are there", tuple(choose))
    if facts.error is not None or facts.answer is None:
        error = facts.error or DevkitError(f"Paddle in {facts.environment} did not answer")
        return _broken(facts.environment, error)
    answer = facts.answer
    build = f"CUDA {answer['cuda']}" if answer["cuda"] else "CPU"
    speed = significant(answer["matmul_gflops"])
    text = (
        f"{answer['paddle']} ({str(answer['commit'])[:10]}, {build}) in {facts.environment}"
        f" on {answer['device']}: 1 + 1 = {answer['sum']:g}, matmul {speed} GFLOP/s"
    )
    return Finding("Paddle", text)


def _broken(name: str, error: DevkitError) -> Finding:
    """Return the finding for a Paddle that did not compute: what that means, and where it is looked into.

    A log of the probe is gone with its folder, and is not named.
    """
    from devkit.envs import doctor

    meant = doctor.explain(name, error)
    known = meant.text if meant.remedies and not meant.text.startswith(error.what) else ""
    why = "\n".join(filter(None, (known, error.why)))
    own = [remedy for remedy in error.remedies if not remedy.startswith(("less ", "devkit env doctor"))]
    if name != OWN:
        own.insert(0, f"devkit env doctor {name}   looks at all that breaks one")
    first, *more = own or ("",)
    return Finding("Paddle", error.what, "broken", why, first, tuple(more))


def check_mkl(processor: Processor, proof: Proof) -> Finding | None:
    """Judge which path Paddle's MKL takes, on an AMD processor; elsewhere there is nothing to say."""
    if not processor.amd:
        return None
    variable = f"{MKL_VARIABLE}={proof.mkl or 5}"
    if proof.answer is None or proof.slow_gflops is None:
        return Finding("MKL", f"devkit sets {variable}, without which it is slow on AMD processors")
    fast, slow = proof.answer["matmul_gflops"], proof.slow_gflops
    if proof.mkl == "5":
        text = f"{significant(fast)} GFLOP/s with {variable}, which devkit sets; {significant(slow)} without"
        remedy = f"export {variable}   for what you start yourself" if fast > MKL_GAIN * slow else ""
        return Finding("MKL", text, remedy=remedy)
    text = f"your own {variable}: {significant(fast)} GFLOP/s, {significant(slow)} without"
    return Finding("MKL", text, "warning", "devkit would set 5", f"unset {MKL_VARIABLE}")
