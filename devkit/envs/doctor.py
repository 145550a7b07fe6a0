"""What breaks environments in life: facts are gathered in one place, and pure functions judge them."""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.doctor.finding import Finding, State
from devkit.envs import moved, store
from devkit.envs.paddle import Driver, companions, probe_driver
from devkit.envs.store import installed
from devkit.errors import DevkitError
from devkit.paths import user_home
from devkit.text import significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.app import App

RECREATE, RELOCATE, DEVICE_SIDE = "recreate", "relocate", "device-side"
GLIBCXX = re.compile(rb"GLIBCXX_3\.4\.(\d+)")
SYSTEM_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib")
CUDA_LIBRARY = re.compile(r"lib(cudart|cublas)\.so\.(\d+)(\.\d+)*")
SHADOWED = ("paddle", "numpy")


@dataclass(frozen=True)
class Facts:
    """All that the judges need.

    Attributes:
        python: its ``bin/python``.
        interpreter: where that leads, and whether it is there.
        packages: name to version, from the metadata in site-packages.
        paddles: as ``paddlepaddle 3.3.1``.
        paddle_cuda: the CUDA of the Paddle that is there, as (major, minor); None for a CPU build.
        glibcxx_needed: the newest symbol version that Paddle asks of libstdc++ (the n of GLIBCXX_3.4.n); 0 if unknown.
        libstdcxx: the libraries in the order in which they are found, each with the newest that it has.
        cuda_libraries: those that LD_LIBRARY_PATH puts first, by their major version.
        shadows: what stands in the current directory where Python looks first.
        python_path: folders in PYTHONPATH, each with what it holds of what an environment should hold itself.
        user_site: the folder of ``pip install --user``, with the same, where Python looks there before the environment.
        device_side: ``right``, ``other`` (another devkit's), ``missing``, or ``no pip`` where only that is missing.
        made_for: the minor version of Python 3 that it was made for, and the one that its interpreter is now.
        moved_from: where it was made, if that is elsewhere.
        adopted: whether something else made it.
    """

    name: str
    python: str
    interpreter: str
    interpreter_is_there: bool
    unfinished: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    paddles: tuple[str, ...] = ()
    paddle_cuda: tuple[int, int] | None = None
    driver: Driver | None = None
    glibcxx_needed: int = 0
    libstdcxx: tuple[tuple[str, int], ...] = ()
    cuda_libraries: tuple[tuple[str, int], ...] = ()
    shadows: tuple[str, ...] = ()
    python_path: tuple[tuple[str, tuple[str, ...]], ...] = ()
    user_site: tuple[str, tuple[str, ...]] = ("", ())
    device_side: str = "right"
    made_for: tuple[int | None, int | None] = (None, None)
    moved_from: str = ""
    adopted: bool = False


def judge(facts: Facts) -> list[Finding]:
    """Return what is to be said of an environment, the worst of it first where nothing else can be looked at."""
    if facts.unfinished:
        return [
            _found("making", "broken", "it is being made, or was left half-made", (f"devkit env create {facts.name}",))
        ]
    made_for, is_now = facts.made_for
    text = "" if facts.interpreter_is_there else f"{facts.interpreter} is gone"
    if not text and made_for is not None and is_now is not None and made_for != is_now:
        text = f"{facts.interpreter} is Python 3.{is_now}, and its packages are in lib/python3.{made_for}"
    if text:
        remedies: tuple[str, ...] = (
            f"devkit env doctor {facts.name} --fix   makes it again with the same packages",
            f"devkit env remove {facts.name}   and then: devkit env create {facts.name}",
        )
        if facts.adopted:
            remedies = (f"devkit env remove {facts.name}   lets go of it",)
        return [_found("interpreter", "broken", text, remedies, () if facts.adopted else (RECREATE,))]
    judges = (_place, _paddle, _companions, _cuda, _libstdcxx, _shadows, _python_path, _device_side)
    interpreter = _found("interpreter", "fine", facts.interpreter)
    return [interpreter, *(finding for iterator in judges for finding in iterator(facts))]


def _found(name: str, state: State, text: str, remedies: Sequence[str] = (), fix: Sequence[str] = ()) -> Finding:
    first, *more = remedies or ("",)
    return Finding(name, text, state, "", first, tuple(more), tuple(fix))


def _place(facts: Facts) -> Iterator[Finding]:
    if facts.moved_from:
        text = f"it was made in {facts.moved_from}: its scripts and activate still lead there"
        yield _found("place", "broken", text, (f"devkit env doctor {facts.name} --fix",), (RELOCATE,))


def _paddle(facts: Facts) -> Iterator[Finding]:
    if len(facts.paddles) > 1:
        names = " ".join(paddle.split()[0] for paddle in facts.paddles)
        yield _found(
            "Paddle", "broken", f"{' and '.join(facts.paddles)} lie over each other in one folder",
            (
                f"devkit env uninstall {facts.name} {names}   and install the one that you want",
                f"devkit env create NAME   beside {facts.name}",
            ),
        )  # fmt: skip
    elif facts.paddles:
        yield _found("Paddle", "fine", facts.paddles[0])
    else:
        yield _found("Paddle", "warning", "none is installed", (f"devkit env create NAME   beside {facts.name}",))


def _companions(facts: Facts) -> Iterator[Finding]:
    """NumPy new enough to break Paddle, or setuptools missing, without which Paddle 3 is not imported."""
    from packaging.requirements import Requirement

    if len(facts.paddles) != 1:
        return
    for requirement in map(Requirement, companions(facts.paddles[0].split()[1])):
        there = facts.packages.get(requirement.name)
        if there is None:
            yield _found(
                requirement.name, "broken", "missing, and Paddle imports it",
                (f"devkit env doctor {facts.name} --fix",), (str(requirement),),
            )  # fmt: skip
        elif not requirement.specifier.contains(there, prereleases=True):
            text = f"{there} is too new for {facts.paddles[0]}, which wants {requirement.specifier}"
            line = f"devkit env doctor {facts.name} --fix"
            yield _found(requirement.name, "broken", text, (line,), (str(requirement),))
        else:
            yield _found(requirement.name, "fine", there)


def _cuda(facts: Facts) -> Iterator[Finding]:
    if facts.paddle_cuda is None:
        return
    built = ".".join(map(str, facts.paddle_cuda))
    other = (f"devkit env create NAME   takes a build for this machine, beside {facts.name}",)
    if facts.driver is None:
        yield _found("CUDA", "warning", f"Paddle is built for CUDA {built}, and no NVIDIA driver is here", other)
    elif facts.paddle_cuda > facts.driver.cuda:
        runs = ".".join(map(str, facts.driver.cuda))
        text = f"Paddle is built for CUDA {built}, and driver {facts.driver.version} runs {runs} at most"
        yield _found("CUDA", "broken", text, other)
    else:
        yield _found("CUDA", "fine", f"{built}, which driver {facts.driver.version} runs")
    for path, major in facts.cuda_libraries:
        if major != facts.paddle_cuda[0]:
            yield _found(
                "CUDA libraries", "broken", f"LD_LIBRARY_PATH puts {path} before those of Paddle (CUDA {built})",
                ("unset LD_LIBRARY_PATH",),
            )  # fmt: skip


def _libstdcxx(facts: Facts) -> Iterator[Finding]:
    if not facts.glibcxx_needed or not facts.libstdcxx:
        return
    first, has = facts.libstdcxx[0]
    if has >= facts.glibcxx_needed:
        text = f"{first} has GLIBCXX_3.4.{has}, and Paddle asks for 3.4.{facts.glibcxx_needed}"
        yield _found("libstdc++", "fine", text)
        return
    newer = next((path for path, version in facts.libstdcxx if version >= facts.glibcxx_needed), None)
    remedies = ["conda install -c conda-forge libstdcxx-ng   where it is conda's"]
    if newer:
        remedies.insert(0, f"export LD_PRELOAD={newer}")
    yield _found(
        "libstdc++", "broken",
        f"{first} is found first and ends at GLIBCXX_3.4.{has}; Paddle asks for 3.4.{facts.glibcxx_needed}",
        tuple(remedies),
    )  # fmt: skip


def _shadows(facts: Facts) -> Iterator[Finding]:
    for path in facts.shadows:
        yield _found(
            "this folder", "broken", f"{path} is imported instead of the environment's",
            ("cd ..   Python looks in the current folder first", "export PYTHONSAFEPATH=1   from Python 3.11 on"),
        )  # fmt: skip


def _python_path(facts: Facts) -> Iterator[Finding]:
    for folder, holds in facts.python_path:
        state: State = "broken" if holds else "warning"
        text = f"{folder} comes before the environment" + (f", and holds {', '.join(holds)}" if holds else "")
        yield _found("PYTHONPATH", state, text, ("unset PYTHONPATH",))
    folder, holds = facts.user_site
    if holds:
        text = f"{folder} comes before the environment, and holds {', '.join(holds)}"
        yield _found("user's packages", "broken", text, ("export PYTHONNOUSERSITE=1",))


def _device_side(facts: Facts) -> Iterator[Finding]:
    if facts.device_side == "right":
        yield _found("devkit", "fine", "its device side is in")
    else:
        text = {
            "missing": "its device side is not in",
            "no pip": "it has no pip: another Python's is found, or none",
        }.get(facts.device_side, "another devkit's device side is in")
        yield _found("devkit", "warning", text, (f"devkit env doctor {facts.name} --fix",), (DEVICE_SIDE,))


# What a Paddle that does not import says, what that means, and the lines that mend it; NAME is the environment.
_IMPORTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (r"SIGILL|Illegal instruction", "the processor lacks an instruction (AVX) that this wheel was built with",
     ("lscpu   shows what it has", "devkit build --profile cpu   builds one for this processor"), ()),
    (r"GLIBCXX_[\d.]+.{0,3} not found|CXXABI_[\d.]+.{0,3} not found", "an older libstdc++ is found first",
     ("conda install -c conda-forge libstdcxx-ng   where it is conda's", "apt install libstdc++6"), ()),
    (r"GLIBC_[\d.]+.{0,3} not found", "the system's C library is older than this wheel's",
     ("devkit env create NAME --docker   takes Paddle's own image",), ()),
    (r"Descriptors cannot (not )?be created directly", "protobuf is too new for this Paddle",
     ("devkit env install NAME 'protobuf<=3.20.3'",), ("protobuf<=3.20.3",)),
    (r"google\.protobuf|No module named '?google", "protobuf is missing, or too old",
     ("devkit env install NAME 'protobuf>=3.20.2'",), ("protobuf>=3.20.2",)),
    (r"_ARRAY_API not found|compiled using NumPy 1|numpy\.core\.multiarray failed", "NumPy is too new for this Paddle",
     ("devkit env install NAME 'numpy<2'",), ("numpy<2",)),
    (r"libcuda\.so\.1", "the NVIDIA driver is not here",
     ("devkit env create OTHER --paddle cpu", "docker run --gpus all   where this is a container"), ()),
    (r"libgomp\.so\.1: cannot open", "libgomp is missing", ("apt install libgomp1", "yum install libgomp"), ()),
    (r"libGL\.so\.1: cannot open", "libGL is missing", ("apt install libgl1", "yum install mesa-libGL"), ()),
    (r"libgthread-2\.0\.so\.0: cannot open", "glib is missing", ("apt install libglib2.0-0",), ()),
    (r"lib(cudnn|cublas|cudart|nccl|cufft|curand|cusolver|cusparse)\S*: cannot open", "a library of CUDA is missing",
     ("devkit env upgrade NAME paddlepaddle-gpu   brings its own", "echo $LD_LIBRARY_PATH"), ()),
    (r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object", "{library} is missing",
     ("apt-file search {library}   says which package has it",), ()),
    (r"cannot allocate memory in static TLS", "a library is loaded too late",
     ("export LD_PRELOAD=$(gcc -print-file-name=libgomp.so.1)",), ()),
    (r"No module named '?paddle\b", "files of Paddle are missing",
     ("devkit env create OTHER   makes another beside it",), ()),
    (r"No module named '?(?P<module>[\w]+)", "{module} is missing",
     ("devkit env install NAME {module}",), ()),
    (r"undefined symbol", "two builds of a library are mixed",
     ("devkit env doctor NAME --fix", "devkit env create OTHER   makes another beside it"), ()),
    (r"MemoryError|Cannot allocate memory|SIGKILL", "the memory does not suffice", ("free -h", "top -o %MEM"), ()),
)  # fmt: skip


def explain(name: str, error: DevkitError) -> Finding:
    """Return the finding for a Paddle that could not be imported, or did not compute, with what mends that."""
    said = f"{error.what}\n{error.why}"
    for pattern, meaning, remedies, fix in _IMPORTS:
        matched = re.search(pattern, said)
        if matched:
            names = {**matched.groupdict(), "name": name}
            lines = tuple(remedy.replace("NAME", name).format(**names) for remedy in remedies)
            text = f"{meaning.format(**names)} ({_last_line(error)})"
            return _found("computes", "broken", text, lines, fix)
    lines = (f"devkit env run {name} -- python -c 'import paddle'   shows all that it says",)
    return _found("computes", "broken", f"{error.what}: {_last_line(error)}", lines)


def _last_line(error: DevkitError) -> str:
    lines = [line.strip() for line in error.why.splitlines() if line.strip()]
    return lines[-1][:200] if lines else error.what


def computes(app: App, name: str, folder: Path) -> Finding:
    """Import an environment's Paddle and let it compute (3 s), and return what came of it."""
    from devkit.envs.resolve import Environment
    from devkit.launch import DeviceBug, Worker, device_environment

    environment = Environment(name, folder / "bin" / "python", "looked at")
    try:
        with (
            app.console.progress(f"computing in {name}"),
            Worker(app, environment, "probe", name="probe", environ=device_environment(app)) as worker,
        ):
            answer = worker.ask({"do": "probe"}, "probe")
    except DeviceBug as error:
        return explain(name, DevkitError("the probe failed", str(error).splitlines()[0]))
    except DevkitError as error:
        return explain(name, error)
    speed = significant(answer["matmul_gflops"])
    return _found("computes", "fine", f"1 + 1 = {answer['sum']:g} on {answer['device']}, matmul {speed} GFLOP/s")


def examine(app: App, name: str, folder: Path, directory: Path, environ: Mapping[str, str]) -> list[Finding]:
    """Return all findings of an environment; one Paddle that can be started is imported, and computes."""
    facts = gather(name, folder, directory, environ)
    findings = judge(facts)
    runnable = facts.interpreter_is_there and not facts.unfinished and findings[0].state != "broken"
    if runnable and len(facts.paddles) == 1:
        findings.append(computes(app, name, folder))
    return findings


def as_json(finding: Finding) -> dict[str, object]:
    """Return a finding with the keys that this command's JSON has always had."""
    return {
        "about": finding.name,
        "state": "look" if finding.state == "warning" else finding.state,
        "text": finding.text,
        "remedies": list(finding.remedies),
        "fix": list(finding.fix),
    }


def gather(name: str, folder: Path, directory: Path, environ: Mapping[str, str]) -> Facts:
    """Look at an environment as a program started in ``directory`` would find it.

    Raises:
        DevkitError: it is of Windows.
    """
    store.check_not_of_windows(folder)
    python = folder / "bin" / "python"
    packages = store.site_packages(folder)
    record = store.read(folder)
    adopted = bool(record and record.adopted)
    minors = (store.made_for(folder), store.runs(folder))
    if not python.exists() or packages is None or store.unfinished(folder):
        return Facts(
            name,
            str(python),
            str(python.resolve()),
            python.exists(),
            store.unfinished(folder),
            made_for=minors,
            adopted=adopted,
        )
    paddles = tuple(store.installed_paddles(folder))
    library = packages / "paddle" / "base" / "libpaddle.so"
    return Facts(
        name,
        str(python),
        str(python.resolve()),
        interpreter_is_there=True,
        packages=installed(packages),
        paddles=paddles,
        paddle_cuda=_paddle_cuda(packages),
        driver=probe_driver()[0],
        glibcxx_needed=_glibcxx(library),
        libstdcxx=tuple(_libraries(folder, environ)) if library.exists() else (),
        cuda_libraries=tuple(_cuda_libraries(environ)),
        shadows=() if environ.get("PYTHONSAFEPATH") else tuple(_shadowing(directory, has_paddle=bool(paddles))),
        python_path=tuple(_path_entries(environ)),
        user_site=_user_site(folder, environ),
        device_side=_device_state(folder, packages, made=bool(record) and not adopted),
        made_for=minors,
        moved_from=moved.made_in(folder),
        adopted=adopted,
    )


def _paddle_cuda(packages: Path) -> tuple[int, int] | None:
    try:
        text = (packages / "paddle" / "version" / "__init__.py").read_text("utf-8", errors="replace")
    except OSError:
        return None
    matched = re.search(r"^cuda_version\s*=\s*'(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(matched[1]), int(matched[2])) if matched else None


def _glibcxx(library: Path) -> int:
    """Return the newest n of GLIBCXX_3.4.n that a library names: what it has, or what it asks for."""
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return max(map(int, set(GLIBCXX.findall(content))), default=0)
    except (OSError, ValueError):
        return 0


def _libraries(folder: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the libstdc++ of each place, in the order of the dynamic linker: conda's Pythons look beside themselves."""
    places = [Path(word) for word in environ.get("LD_LIBRARY_PATH", "").split(":") if word]
    base = (folder / "bin" / "python").resolve().parent.parent
    if (base / "conda-meta").is_dir():
        places.append(base / "lib")
    for place in (*places, *map(Path, SYSTEM_LIBRARIES)):
        library = place / "libstdc++.so.6"
        if library.exists():
            yield str(library), _glibcxx(library)


def _cuda_libraries(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for place in environ.get("LD_LIBRARY_PATH", "").split(":"):
        for library in sorted(Path(place).glob("libcu*.so.*")) if place else ():
            matched = CUDA_LIBRARY.fullmatch(library.name)
            if matched:
                yield str(library), int(matched[2])


def _shadowing(directory: Path, *, has_paddle: bool) -> Iterator[str]:
    for name in SHADOWED:
        folder, module = directory / name, directory / f"{name}.py"
        # A folder without __init__.py, as the C++ sources of Paddle are, gives way to an installed package.
        if (folder / "__init__.py").is_file() or (name == "paddle" and folder.is_dir() and not has_paddle):
            yield str(folder)
        if module.is_file():
            yield str(module)


def _path_entries(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for word in filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)):
        yield word, _held(Path(word))


def _held(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in SHADOWED if (folder / name / "__init__.py").is_file())


def _user_site(folder: Path, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the folder of the user's own packages: conda's Pythons look there first, those of a venv do not."""
    minor = store.runs(folder)
    if environ.get("PYTHONNOUSERSITE") or minor is None or (folder / "pyvenv.cfg").is_file():
        return "", ()
    base = Path(environ.get("PYTHONUSERBASE") or user_home() / ".local")
    site = base / "lib" / f"python3.{minor}" / "site-packages"
    return str(site), _held(site)


def _device_state(folder: Path, packages: Path, *, made: bool) -> str:
    from devkit.envs import pip
    from devkit.launch import device_side

    try:
        found = store.device_side_of(os.fsdecode((packages / store.DEVICE_SIDE).read_bytes()).strip())
    except (OSError, ValueError, SyntaxError):
        return "missing"
    ours = device_side()
    same = found == ours or (found.is_dir() and found.samefile(ours))  # a home may be a link
    if not same:
        return "other"
    return "no pip" if made and not pip.is_in(folder) else "right"


def fix(app: App, name: str, folder: Path, findings: Sequence[Finding]) -> list[str]:
    """Do what is safe about the findings, and return what was done.

    Raises:
        DevkitError: uv failed.
    """
    from devkit.envs import packages as changes
    from devkit.envs import pip

    wanted = [word for finding in findings for word in finding.fix]
    done = []
    if RECREATE in wanted:
        made = changes.recreate(app, name, folder)
        return [f"{name} was made again: Python {made.plan.interpreter.dotted}, the same packages"]
    if RELOCATE in wanted:
        done.append(f"{moved.relocate(folder)} files of it lead here again")
    if DEVICE_SIDE in wanted:
        store.put_device_side(folder)
        pip.restore(folder)
        done.append("devkit's device side put in")
    packages = list(dict.fromkeys(word for word in wanted if word not in {RECREATE, RELOCATE, DEVICE_SIDE}))
    if packages:
        request = changes.PackageRequest("install", tuple(packages))
        changes.execute(app, changes.plan(app, name, folder, request, folder))
        done.append(f"installed {', '.join(packages)}")
    return done
