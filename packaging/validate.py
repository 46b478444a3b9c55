# /// script
# requires-python = ">=3.11"
# dependencies = ["cibuildwheel==4.3.5", "py-rattler-build==0.73.0", "validate-pyproject[all]==0.27"]
# ///
"""Checks pyproject.toml and the conda recipe as far as that is possible offline, and prints what they would build.

    uv run --script packaging/validate.py

pyproject.toml is checked against the schemas of its standards, of setuptools and of cibuildwheel, whose own parser then
reads its options for every wheel. The recipe is parsed, and rendered for every variant, by rattler-build.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from cibuildwheel.options import CommandLineArguments, compute_options
from cibuildwheel.platforms.linux import get_python_configurations
from rattler_build import PlatformConfig, RenderConfig, Stage0Recipe, VariantConfig
from validate_pyproject.api import Validator

ROOT = Path(__file__).resolve().parents[1]


def validate_wheels() -> None:
    """Prints the image of each wheel that would be built, and the command that runs before its build.

    Raises:
        validate_pyproject.error_reporting.ValidationError: a table of pyproject.toml does not follow its schema.
        cibuildwheel.errors.FatalError: cibuildwheel cannot read its options.
    """
    Validator()(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    arguments = CommandLineArguments.defaults()
    arguments.package_dir = ROOT
    options = compute_options(platform="linux", command_line_arguments=arguments, env=dict(os.environ))
    build = options.globals
    for python in get_python_configurations(build.build_selector, build.architectures):
        wheel = options.build_options(python.identifier)
        print(f"{python.identifier} in {wheel.manylinux_images['x86_64']}: {wheel.before_build}")


def validate_recipe() -> None:
    """Prints the build string of every variant of the recipe.

    Raises:
        rattler_build.RattlerBuildError: the recipe cannot be parsed or rendered.
    """
    folder = ROOT / "packaging" / "conda"
    recipe = Stage0Recipe.from_file(folder / "recipe.yaml")
    variants = VariantConfig.from_file(folder / "variants.yaml")
    for rendered in recipe.render(variants, RenderConfig(PlatformConfig(target_platform="linux-64"))):
        print(f"{rendered.recipe.package.name} {rendered.recipe.package.version} {rendered.recipe.build.string}")


if __name__ == "__main__":
    validate_wheels()
    validate_recipe()
