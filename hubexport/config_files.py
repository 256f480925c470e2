"""The YAML files in `configs/` and in users' own folders: found, read strictly, and explained where they are wrong."""

from collections.abc import Iterator
import os
from pathlib import Path
import re
from typing import Any

import pydantic

from hubexport.errors import ConfigError, guess
from hubexport.variants import PublishedCheckpoint, PublishedFigures, StrictModel, Variant
from hubexport.yaml_lines import Document, read_yaml


def builtin_config_dir() -> Path:
    """Returns the folder of the configs that come with hubexport: beside the modules, or above in a checkout."""
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def list_variants(config_dir: str | Path | None = None) -> list[Variant]:
    """Loads all variants, sorted by name.

    Args:
        config_dir: a folder of YAML files beside the built-in ones; of two with one name, its own is taken.
    Raises:
        ConfigError: a file is not a valid config, or the folder cannot be read.
    """
    return [_load(path) for _, path in sorted(_config_files(config_dir).items())]


def load_variant(name: str, config_dir: str | Path | None = None) -> Variant:
    """Loads one variant.

    Args:
        name: the name of its file without `.yaml`, like `mobilenet_v2_075_192`.
        config_dir: as for `list_variants`.
    Raises:
        ConfigError: there is no such variant, or its file is not a valid config.
    """
    files = _config_files(config_dir)
    if name not in files:
        raise ConfigError(
            f"no variant {name!r}{guess(name, files)}",
            why=f"there are {', '.join(sorted(files))}",
            fix="name one of these, or add its YAML file to a folder and name that with --config_dir",
        )
    return _load(files[name])


def _config_files(config_dir: str | Path | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in [builtin_config_dir(), *([Path(config_dir)] if config_dir is not None else [])]:
        if not os.path.isdir(folder):
            raise ConfigError(
                f"no folder {folder}",
                why="--config_dir is not a directory",
                fix="name a folder of YAML files",
            )
        files |= {path.stem: path for path in folder.glob("*.yaml")}
    return files


def _load(path: Path) -> Variant:
    document = read_yaml(path)
    if isinstance(document.value, dict) and "name" in document.value:
        # The file's name is the variant's; two names could disagree.
        findings = [(document.line(("name",)), "'name' is not a key: the variant is named by its file")]
    else:
        try:
            return Variant.model_validate({"name": path.stem, **_mapping(document)})
        except pydantic.ValidationError as error:
            findings = list(_findings(document, error))
    (line, first), *others = findings
    raise ConfigError(
        f"{path}:{line}: not a valid variant",
        why=first,
        details=[f"line {line}: {text}" for line, text in others],
        fix="correct the file; the README's chapter on adding a variant lists all keys",
    )


def _mapping(document: Document) -> dict[str, Any]:
    if not isinstance(document.value, dict):
        raise ConfigError(
            f"{document.path}:1: not a valid variant",
            why=f"found {_shown(document.value)}, allowed is a mapping of keys to values",
            fix="write `network: mobilenet_v2` and so on, one key a line",
        )
    return document.value


def _findings(document: Document, error: pydantic.ValidationError) -> Iterator[tuple[int, str]]:
    """Yields (line, what was found and what is allowed) for each complaint."""
    problems = error.errors(include_url=False, include_context=False)
    # A misspelt key is also missing under its right name: the misspelling comes first.
    for problem in sorted(problems, key=lambda problem: problem["type"] == "missing"):
        location, found = problem["loc"], problem["input"]
        key = ".".join(map(str, location))
        line = document.line(location)
        if problem["type"] == "extra_forbidden":
            allowed = _keys_at(location[:-1])
            known = f"allowed are {', '.join(allowed)}{guess(str(location[-1]), allowed)}"
            yield line, f"unknown key '{key}', {known}"
        elif problem["type"] == "missing":
            yield line, f"missing key '{key}'"
        else:
            allowed_value = re.sub("^(Input should be|Value error,|String should) ", "", problem["msg"])
            yield line, f"'{key}': found {_shown(found)}, allowed is {allowed_value}"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    models: dict[tuple[str | int, ...], type[StrictModel]] = {
        (): Variant,
        ("checkpoint",): PublishedCheckpoint,
        ("published",): PublishedFigures,
    }
    return [key for key in models[location].model_fields if key != "name" or location]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
