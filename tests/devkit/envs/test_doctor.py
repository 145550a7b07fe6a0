"""What breaks environments is found, by judges that see facts alone and by a look at folders that are broken so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from devkit.envs.doctor import Facts, gather, judge
from devkit.envs.paddle import Driver
from devkit.envs.store import installed

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.doctor.finding import Finding

SOUND = Facts(
    "work",
    "/envs/work/bin/python",
    "/usr/bin/python3.11",
    interpreter_is_there=True,
    packages={"numpy": "2.3.5", "setuptools": "80.0", "paddlepaddle": "3.3.1"},
    paddles=("paddlepaddle 3.3.1",),
    glibcxx_needed=22,
    libstdcxx=(("/usr/lib/libstdc++.so.6", 30),),
)


def broken(**changed: Any) -> list[Finding]:
    """Return what is not fine of facts that are sound but for these."""
    return [finding for finding in judge(replace(SOUND, **changed)) if finding.state != "fine"]


def test_sound_environment_has_nothing_to_mend() -> None:
    assert broken() == []
    assert [finding.name for finding in judge(SOUND)] == [
        "interpreter", "Paddle", "setuptools", "numpy", "libstdc++", "devkit",
    ]  # fmt: skip


def test_gone_interpreter_and_cut_off_making_are_all_there_is_to_say() -> None:
    (gone,) = judge(replace(SOUND, interpreter_is_there=False))
    assert (gone.name, gone.state) == ("interpreter", "broken")
    (cut_off,) = judge(replace(SOUND, unfinished=True))
    assert cut_off.remedies == ("devkit env create work",)


def test_two_paddles_at_once_are_broken() -> None:
    (found,) = broken(paddles=("paddlepaddle 3.3.1", "paddlepaddle-gpu 3.3.1"))
    assert (found.name, found.state) == ("Paddle", "broken")
    assert found.remedies[0].startswith("devkit env uninstall work paddlepaddle paddlepaddle-gpu ")
    assert found.fix == ()


def test_numpy_too_new_and_missing_setuptools_can_be_fixed() -> None:
    (numpy,) = broken(packages={"numpy": "2.4.1", "setuptools": "80.0"})
    assert numpy.fix == ("numpy<2.4",)
    assert "2.4.1 is too new" in numpy.text
    (setuptools,) = broken(packages={"numpy": "2.3.5"})
    assert setuptools.fix == ("setuptools",)
    old = {"packages": {"numpy": "2.3.5", "setuptools": "80.0"}, "paddles": ("paddlepaddle 2.6.2",)}
    (numpy,) = broken(**old)
    assert numpy.fix == ("numpy<2",)


def test_cuda_beyond_the_driver_is_broken() -> None:
    gpu = {"paddles": ("paddlepaddle-gpu 3.3.1",), "paddle_cuda": (12, 9)}
    (found,) = broken(**gpu, driver=Driver("550.1", (12, 4)))
    assert found.state == "broken"
    assert "driver 550.1 runs 12.4 at most" in found.text
    assert broken(**gpu, driver=Driver("580.1", (13, 0))) == []
    (found,) = broken(**gpu)
    assert found.state == "warning"
    (found,) = broken(**gpu, driver=Driver("580.1", (13, 0)), cuda_libraries=(("/opt/cuda-11/libcudart.so.11.0", 11),))
    assert found.name == "CUDA libraries"


def test_older_libstdcxx_found_first_is_broken() -> None:
    (found,) = broken(libstdcxx=(("/conda/lib/libstdc++.so.6", 19), ("/usr/lib/libstdc++.so.6", 30)))
    assert found.name == "libstdc++"
    assert found.remedies[0] == "export LD_PRELOAD=/usr/lib/libstdc++.so.6"


def test_what_leaks_in_is_named() -> None:
    (shadow,) = broken(shadows=("/here/paddle",))
    assert "/here/paddle is imported instead" in shadow.text
    harmless, harmful = broken(python_path=(("/tools", ()), ("/build/python", ("paddle",))))
    assert (harmless.state, harmful.state) == ("warning", "broken")
    (device,) = broken(device_side="missing")
    assert device.fix == ("device-side",)


def environment(folder: Path) -> Path:
    """Return the site-packages of an environment that is only its folders."""
    packages = folder / "lib" / "python3.11" / "site-packages"
    (packages / "paddle" / "base").mkdir(parents=True)
    (packages / "paddle" / "version").mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "python").touch()
    for name in ("paddlepaddle_gpu-3.3.1", "numpy-2.4.0", "typing_extensions-4.16.0"):
        (packages / f"{name}.dist-info").mkdir()
    (packages / "paddle" / "version" / "__init__.py").write_text("cuda_version     = '12.6'\n")
    (packages / "paddle" / "base" / "libpaddle.so").write_bytes(b"\0GLIBCXX_3.4.9\0GLIBCXX_3.4.22\0")
    return packages


def test_facts_are_read_from_the_folders(tmp_path: Path) -> None:
    packages = environment(tmp_path / "env")
    conda = tmp_path / "conda" / "lib"
    conda.mkdir(parents=True)
    (conda / "libstdc++.so.6").write_bytes(b"GLIBCXX_3.4.19\0")
    (conda / "libcudart.so.11.0").touch()
    here = tmp_path / "here"
    (here / "paddle").mkdir(parents=True)
    (here / "numpy.py").touch()
    environ = {"LD_LIBRARY_PATH": str(conda), "PYTHONPATH": f"{packages}:{here}"}
    (packages / "numpy").mkdir()
    (packages / "numpy" / "__init__.py").touch()
    facts = gather("work", tmp_path / "env", here, environ)
    assert facts.paddles == ("paddlepaddle-gpu 3.3.1",)
    assert facts.paddle_cuda == (12, 6)
    assert facts.glibcxx_needed == 22
    assert facts.libstdcxx[0] == (str(conda / "libstdc++.so.6"), 19)
    assert facts.cuda_libraries == ((str(conda / "libcudart.so.11.0"), 11),)
    assert facts.shadows == (str(here / "numpy.py"),)  # a paddle/ without __init__.py gives way
    assert facts.python_path == ((str(packages), ("numpy",)), (str(here), ()))
    assert facts.device_side == "missing"
    assert facts.user_site == ("", ())
    assert installed(packages)["typing-extensions"] == "4.16.0"
    (here / "paddle" / "__init__.py").touch()
    assert str(here / "paddle") in gather("work", tmp_path / "env", here, environ).shadows


def test_users_packages_come_before_those_of_conda_and_not_of_a_venv(tmp_path: Path) -> None:
    environment(tmp_path / "env")
    (tmp_path / "env" / "bin" / "python").unlink()
    (tmp_path / "env" / "bin" / "python").symlink_to("python3.11")
    (tmp_path / "env" / "bin" / "python3.11").touch()
    site = tmp_path / "user" / "lib" / "python3.11" / "site-packages"
    (site / "numpy").mkdir(parents=True)
    (site / "numpy" / "__init__.py").touch()
    environ = {"PYTHONUSERBASE": str(tmp_path / "user")}
    findings = judge(gather("work", tmp_path / "env", tmp_path, environ))
    found = next(finding for finding in findings if finding.name == "user's packages")
    assert found.state == "broken"
    assert found.text == f"{site} comes before the environment, and holds numpy"
    assert gather("work", tmp_path / "env", tmp_path, {**environ, "PYTHONNOUSERSITE": "1"}).user_site == ("", ())
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert gather("work", tmp_path / "env", tmp_path, environ).user_site == ("", ())


@pytest.mark.parametrize("make", ["nothing", "no packages"])
def test_folder_without_a_python_has_lost_it(make: str, tmp_path: Path) -> None:
    if make == "no packages":
        (tmp_path / "bin").mkdir()
    facts = gather("work", tmp_path, tmp_path, {})
    assert not facts.interpreter_is_there
