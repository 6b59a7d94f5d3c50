"""The locked test environment is one: whatever pyproject.toml asks for is pinned, at a version that it allows."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def asked(extras):
    """Requirements of the base install and of the extras named, those of the project's own extras followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for e in extras for line in project["optional-dependencies"][e])]
    for requirement in map(Requirement, lines):
        if requirement.name == project["name"]:
            yield from asked(requirement.extras)
        else:
            yield requirement


def pins():
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(r.name): [(s.operator, s.version) for s in r.specifier] for r in found}


def test_everything_asked_for_is_pinned_where_it_may_be():
    locked = pins()
    for requirement in asked(["test"]):
        [(operator, version)] = locked[canonicalize_name(requirement.name)]
        assert operator == "=="
        assert requirement.specifier.contains(version), f"{requirement} does not allow the locked {version}"


def test_pins_are_versions_and_nothing_else():
    """No path, address or local build that another machine would not have."""
    for name, specifiers in pins().items():
        assert len(specifiers) == 1, name
        assert specifiers[0][0] == "==", name
        assert "+" not in specifiers[0][1], name
