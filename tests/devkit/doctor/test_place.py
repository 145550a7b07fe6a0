"""What is particular about a place is said, and nothing is said of one without particulars."""

from __future__ import annotations

from devkit.doctor import place
from devkit.doctor.place import Surroundings, check


def test_ordinary_machine_is_not_spoken_of() -> None:
    assert check(Surroundings()) == []


def test_ai_studio_says_what_a_restart_takes() -> None:
    lost, *_ = check(Surroundings(ai_studio=True, folders=(("environments", "/root/.local/share/devkit"),)))
    assert lost.state == "warning"
    assert "environments in /root/.local/share/devkit" in lost.why
    assert lost.remedy.startswith("export XDG_DATA_HOME=/home/aistudio/work/")
    (kept,) = check(Surroundings(ai_studio=True, folders=(("environments", f"{place.AI_STUDIO_STAYS}/x"),)))
    assert kept.state == "fine"


def test_wsl_says_what_windows_does_to_a_checkout() -> None:
    (old,) = check(Surroundings(wsl=1))
    assert old.state == "broken"
    (fine,) = check(Surroundings(wsl=2, directory="/home/ada/Paddle"))
    assert fine.state == "fine"
    settings = {"core.autocrlf": "true", "core.symlinks": "false"}
    found = check(Surroundings(wsl=2, directory="/mnt/c/Users/ada/Paddle", git=settings))
    assert [finding.name for finding in found] == ["WSL", "disk of Windows", "line ends", "links"]
    assert all(finding.remedy for finding in found[1:])
    assert [finding.name for finding in check(Surroundings(wsl=2, directory="/mnt/cache"))] == ["WSL"]


def test_wsl_knows_a_disk_of_windows_wherever_it_is_mounted_and_little_memory() -> None:
    found = check(Surroundings(wsl=2, directory="/win/c/Paddle", file_system="9p", installed=4 << 30))
    assert [finding.name for finding in found] == ["WSL", "memory of WSL", "disk of Windows"]
    assert found[1].remedy.startswith(r"notepad %UserProfile%\.wslconfig   [wsl2] memory=")
    assert len(check(Surroundings(wsl=2, directory="/home/ada", installed=16 << 30))) == 1


def test_limits_of_a_control_group_are_shown() -> None:
    (limits,) = check(Surroundings(quota=1.5, memory=8 << 30, version=1))
    assert limits.text == "control group v1: 1.50 cores, 8.00 GiB"
