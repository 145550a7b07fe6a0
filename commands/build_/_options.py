"""The flags that the commands of builds share."""

from __future__ import annotations

from typing import Annotated

import typer


def _profiles(incomplete: str) -> list[tuple[str, str]]:
    from devkit.builds.profiles import profiles
    from devkit.builds.projects import projects
    from devkit.config import Config

    found = {name: profile.purpose for name, profile in profiles(Config.load()).items()}
    found |= {name: project.purpose for name, project in projects().items()}
    return [(name, purpose) for name, purpose in found.items() if name.startswith(incomplete)]


Checkout = Annotated[
    str,
    typer.Option("-C", metavar="PATH", show_default=False, help="The checkout of Paddle; the current one by default."),
]
BuildDir = Annotated[str, typer.Option("--build-dir", metavar="PATH", help="The build folder, from the checkout.")]
ProfileName = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        autocompletion=_profiles,
        help="One of devkit build profiles; gpu or cpu by default.",
    ),
]
Defines = Annotated[
    list[str] | None, typer.Option("-D", metavar="NAME=VALUE", help="An option for CMake, over the profile's.")
]
JobCount = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=0,
        max=4096,
        show_default=False,
        help="Compilers at once; as many as cores and memory carry.",
    ),
]
