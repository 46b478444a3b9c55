"""packaging/, the options of cibuildwheel and the conda recipe agree with pyproject.toml and with each other."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import somvae_ext


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheels(pyproject: dict[str, Any]) -> dict[str, Any]:
    return pyproject["tool"]["cibuildwheel"]


@pytest.fixture(scope="module")
def recipe(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "packaging" / "conda" / "recipe.yaml").read_text())


@pytest.fixture(scope="module")
def variants(root: Path) -> dict[str, list[str]]:
    return yaml.safe_load((root / "packaging" / "conda" / "variants.yaml").read_text())


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "packaging" / "README.md").read_text()


@pytest.fixture(scope="module")
def records(versions: ModuleType) -> list[dict[str, Any]]:
    return json.loads(versions.RECORDS.read_text())


@pytest.fixture(scope="module")
def pinned_torch(root: Path) -> str:
    return re.search(r"^torch==(.+)$", (root / "constraints.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]


def python_versions(pyproject: dict[str, Any]) -> list[str]:
    """Returns the versions in the classifiers, ``["3.11", ...]``."""
    classifier = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    return [found[1] for name in pyproject["project"]["classifiers"] if (found := classifier.fullmatch(name))]


def names(requirements: list[Any]) -> set[str]:
    """Returns the names of the packages that every variant requires, without their versions."""
    return {re.split(r"[ <>=~]", requirement)[0] for requirement in requirements if isinstance(requirement, str)}


# ---- versions.json and its page --------------------------------------------------------------------------------------


def test_the_table_of_the_page_is_that_of_the_records(
    versions: ModuleType, page: str, records: list[dict[str, Any]]
) -> None:
    assert versions.table(records) + "\n" in page


def test_the_page_names_the_libraries_that_wheels_need(page: str, records: list[dict[str, Any]]) -> None:
    named = re.search(r"is linked to (.+?)\. ", page, re.DOTALL)[1]  # type: ignore[index]
    needed = {name for record in records for name in record["needs"]}
    assert set(re.findall(r"`(\S+\.so[.\d]*)`", named)) == needed


def test_every_supported_pair_is_proven_or_listed_as_unproven(
    versions: ModuleType,
    setup_py: ModuleType,
    pyproject: dict[str, Any],
    page: str,
    records: list[dict[str, Any]],
    pinned_torch: str,
) -> None:
    torches = [setup_py.OLDEST_TORCH, setup_py.release(pinned_torch)]
    supported = {(python, "{}.{}".format(*torch)) for python in python_versions(pyproject) for torch in torches}
    proven = {
        (record["python"].rpartition(".")[0], "{}.{}".format(*setup_py.release(record["torch"])))
        for record in records
        if versions.proven(record)
    }
    said = set(re.findall(r"Python (3\.\d+) with torch\s(\d+\.\d+)", page))
    assert proven | said == supported
    assert proven & said == set()


# ---- cibuildwheel ----------------------------------------------------------------------------------------------------


def test_wheels_are_built_for_every_python(wheels: dict[str, Any], pyproject: dict[str, Any]) -> None:
    tags = [f"cp{python.replace('.', '')}" for python in python_versions(pyproject)]
    assert wheels["build"] == [f"{tag}-manylinux_x86_64" for tag in tags]


def test_wheels_are_built_with_the_pinned_torch(wheels: dict[str, Any], pinned_torch: str) -> None:
    assert wheels["environment"] == {"SOMVAE_EXT_CUDA": "0", "TORCH": pinned_torch}


def test_wheels_are_built_with_what_the_build_requires(wheels: dict[str, Any], pyproject: dict[str, Any]) -> None:
    installed = wheels["before-build"].removeprefix("pip install ").replace("'", "").split()
    assert set(pyproject["build-system"]["requires"]) <= set(installed)


def test_wheels_are_tested_as_the_script_tests_them(versions: ModuleType, wheels: dict[str, Any]) -> None:
    assert wheels["test-command"].endswith(" ".join(["-m 'not slow'", *versions.TESTS]))
    assert wheels["test-sources"] == versions.TEST_SOURCES
    assert wheels["test-requires"] == versions.TEST_TOOLS


def test_wheels_leave_out_the_same_libraries_as_the_script(versions: ModuleType, wheels: dict[str, Any]) -> None:
    excluded = re.findall(r"--exclude=(\S+)", wheels["linux"]["repair-wheel-command"])
    assert excluded == versions.LIBRARIES_OF_TORCH


# ---- conda -----------------------------------------------------------------------------------------------------------


def test_the_recipe_has_the_version_of_the_package(recipe: dict[str, Any]) -> None:
    assert recipe["context"]["version"] == somvae_ext.__version__


def test_the_recipe_requires_what_the_package_requires(recipe: dict[str, Any], setup_py: ModuleType) -> None:
    assert names(recipe["requirements"]["run"]) == {"python", "pytorch", *names(setup_py.DEPENDENCIES)}


def test_the_recipe_builds_with_what_the_build_requires(recipe: dict[str, Any], pyproject: dict[str, Any]) -> None:
    at_build = [*recipe["requirements"]["build"], *recipe["requirements"]["host"]]
    assert names(pyproject["build-system"]["requires"]) <= names(at_build)


def test_the_recipe_is_rendered_for_every_python_and_the_pinned_torch(
    variants: dict[str, list[str]], pyproject: dict[str, Any], pinned_torch: str
) -> None:
    assert [python.partition(".*")[0] for python in variants["python"]] == python_versions(pyproject)
    assert variants["pytorch"] == [pinned_torch.rpartition(".")[0]]


def test_the_recipe_tests_what_the_script_tests(versions: ModuleType, recipe: dict[str, Any]) -> None:
    tests = recipe["tests"][1]
    assert tests["script"][0].endswith(" ".join(['-m "not slow"', *versions.TESTS]))
    assert [name.rstrip("/") for name in tests["files"]["source"]] == versions.TEST_SOURCES
    assert tests["requirements"]["run"][:3] == versions.TEST_TOOLS


def test_the_recipe_describes_the_package_as_pyproject_does(recipe: dict[str, Any], pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    assert [recipe["about"]["license_file"]] == project["license-files"]


# ---- CITATION.cff ----------------------------------------------------------------------------------------------------


def test_the_citation_is_that_of_this_version(root: Path) -> None:
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == somvae_ext.__version__
