"""The package list, found rather than typed; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# The workshops live at the top level of the repository and install inside relo_edge,
# so a wheel never drops a package called `export` into someone's site-packages.
WORKSHOPS = ("benchmarks", "calibration", "export", "runtimes", "training")
ROOT = Path(__file__).parent


def find_modules() -> list[str]:
    """Every package of the core and of the workshops, by the name it installs under."""
    core = ["relo_edge", *(f"relo_edge.{name}" for name in find_packages(str(ROOT / "relo_edge")))]
    for workshop in WORKSHOPS:
        inner = find_packages(str(ROOT / workshop))
        core += [f"relo_edge.{workshop}", *(f"relo_edge.{workshop}.{name}" for name in inner)]
    return core


setup(
    packages=find_modules(),
    package_dir={"relo_edge": "relo_edge", **{f"relo_edge.{name}": name for name in WORKSHOPS}},
)
