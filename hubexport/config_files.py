"""Finds the YAML files of variants, reads them strictly, and explains the mistakes in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import fnmatch
from pathlib import Path
import re
from typing import Any

import pydantic

from hubexport.errors import ConfigError, UsageError, guess
from hubexport.labels import labels_problem, read_labels
from hubexport.networks.family_fields import PARAMETER_NAMES
from hubexport.networks.registry import FAMILIES
from hubexport.variants import LabelFile, PublishedCheckpoint, PublishedFigures, Variant
from hubexport.yaml_lines import Document, Place, read_yaml

# What the names of YAML files end in, in small letters or capitals.
_SUFFIXES = (".yaml", ".yml")
# The key that names a file of values that variants share.
_FAMILY_KEY = "extends"
# In such a file, the place of a value of the variant, like `{image_size}`.
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# A shared file names the classes of variants with its values of these.
_CLASSES_KEYS = ("dataset", "num_classes")
# The keys of a variant's file for every family of networks. The variant's name is the file's.
_KEYS = [_FAMILY_KEY, *(key for key in Variant.model_fields if key not in ("name", "family_parameters"))]
# The keys below a key.
_NESTED_KEYS: dict[str | int, list[str]] = {
    "labels": list(LabelFile.model_fields),
    "checkpoint": list(PublishedCheckpoint.model_fields),
    "published": list(PublishedFigures.model_fields),
}


def builtin_config_dir() -> Path:
    """Returns the folder of the built-in configs: in the installed package, or at the top of a checkout."""
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def is_builtin(name: str) -> bool:
    """Tells whether a built-in variant has a name."""
    return name in _config_files(None)


def list_variants(config_dir: str | Path | None = None) -> list[Variant]:
    """Loads all variants, sorted by name.

    Args:
        config_dir: a folder of YAML files in addition to the built-in ones. It may replace built-in variants.
    Raises:
        ConfigError: a file is not a valid config, or the folder cannot be read.
    """
    return [_load(path) for _, path in sorted(_config_files(config_dir).items())]


def variant_names(config_dir: str | Path | None = None) -> list[str]:
    """Returns the names of all variants, sorted, without reading their files.

    Args:
        config_dir: as for `list_variants`.
    Raises:
        ConfigError: the folder cannot be read.
    """
    return sorted(_config_files(config_dir))


def load_variant(name: str, config_dir: str | Path | None = None) -> Variant:
    """Loads one variant.

    Args:
        name: the name of the variant's file without `.yaml` or `.yml`, like `mobilenet_v2_075_192`.
        config_dir: as for `list_variants`.
    Raises:
        ConfigError: there is no such variant, or its file is not a valid config.
    """
    files = _config_files(config_dir)
    if name not in files:
        raise _no_variant(name, files)
    return _load(files[name])


def select_variants(patterns: Sequence[str], config_dir: str | Path | None = None) -> list[Variant]:
    """Loads the variants that patterns match, each once.

    Args:
        patterns: names, patterns of names like `mobilenet_v2_*_96`, or `all`.
        config_dir: as for `list_variants`.
    Raises:
        ConfigError: a pattern matches no name, or a matching file is not a valid config.
    """
    files = _config_files(config_dir)
    selected: dict[str, Path] = {}
    for pattern in patterns:
        names = fnmatch.filter(sorted(files), "*" if pattern == "all" else pattern)
        if not names:
            raise _no_variant(pattern, files)
        selected |= {name: files[name] for name in names}
    return [_load(path) for path in selected.values()]


def _no_variant(name: str, files: Mapping[str, Path]) -> ConfigError:
    is_pattern = any(wildcard in str(name) for wildcard in "*?[")
    in_lower_case = str(name).lower()
    near = set(files)
    if str(name).endswith("*"):  # It nearly matches the beginning of a name.
        near = {f"{known[:length]}*" for known in files for length in range(len(name) - 2, len(name) + 1)}
    in_other_case = fnmatch.filter(files, in_lower_case)
    if in_other_case:
        hint = f" (did you mean {in_lower_case!r}?)"
    elif name and not is_pattern and any(in_lower_case in known for known in files):
        hint = f" (did you mean '*{in_lower_case}*'?)"
    else:
        hint = guess(name, sorted(near))
    return ConfigError(
        f"no variant {name!r}{hint}",
        why=f"none of the {len(files)} known variants {'matches it' if is_pattern else 'has this name'}",
        fix="use a name that `hubexport list` shows, or pass the folder of its YAML file with --config-dir",
    )


def _config_files(config_dir: str | Path | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in [builtin_config_dir(), *([Path(config_dir)] if config_dir is not None else [])]:
        try:
            paths = list(folder.iterdir())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no folder {folder}",
                why=f"--config-dir cannot be read: {getattr(error, 'strerror', None) or error}",
                fix="use a folder of YAML files",
            ) from None
        files |= _by_name(paths)
    return files


def _by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Returns the YAML files among the files of a folder, by their names without the suffix.

    Raises:
        ConfigError: two files differ in nothing else.
    """
    files: dict[str, Path] = {}
    for path in sorted(paths):
        if path.suffix.lower() in _SUFFIXES and (other := files.setdefault(path.stem, path)) != path:
            raise ConfigError(
                f"two files for {path.stem}: {other} and {path.name}",
                why="both endings mean the same, so the files contradict each other",
                fix="remove or rename one of them",
            )
    return files


def _load(path: Path) -> Variant:
    document = _with_family(read_yaml(path))
    if isinstance(document.value, dict) and "name" in document.value:
        # The file's name is the variant's name. A second name could differ.
        findings = [(document.place(("name",)), "'name' is not a key: the file's name is the variant's name")]
    else:
        try:
            variant = Variant.model_validate({"name": path.stem, **_mapping(document)})
            return _with_labels(variant, document.place(("labels",)))
        except pydantic.ValidationError as error:
            findings = list(_findings(document, error))
    (place, first), *others = findings
    raise _invalid(place, first, others)


def _invalid(place: Place, why: str, others: Sequence[tuple[Place, str]] = ()) -> ConfigError:
    return ConfigError(
        f"{place}: not a valid variant",
        why=why,
        details=[f"{f'line {at.line}' if at.path == place.path else at}: {text}" for at, text in others],
        fix="correct the file; the documentation on adding a variant lists all keys",
    )


def _with_family(document: Document) -> Document:
    """Merges a variant's file with the family file that `extends` names. The variant's own values win.

    A variant has the family's labels only if it has its dataset and its number of classes.
    """
    if not isinstance(document.value, dict) or _FAMILY_KEY not in document.value:
        return document
    own = dataclasses.replace(
        document,
        value={key: value for key, value in document.value.items() if key != _FAMILY_KEY},
        places={location: place for location, place in document.places.items() if location != (_FAMILY_KEY,)},
    )
    family = read_yaml(_family_file(document))
    scalars = {
        key: str(value) for key, value in (_mapping(family) | own.value).items() if not isinstance(value, (dict, list))
    }
    try:
        shared = _fill_in(_mapping(family), scalars)
    except KeyError as error:
        raise _invalid(document.place(()), f"missing key '{error.args[0]}'") from None
    other_classes = any(key in shared and own.value.get(key, shared[key]) != shared[key] for key in _CLASSES_KEYS)
    if "labels" in own.value or other_classes:
        shared.pop("labels", None)
    return own.over(dataclasses.replace(family, value=shared))


def _family_file(document: Document) -> Path:
    """Finds `families/NAME.yaml` or `.yml` beside the variant's file, or among the built-in ones."""
    name = document.value[_FAMILY_KEY]
    families: dict[str, Path] = {}
    for folder in (builtin_config_dir(), document.path.parent):
        families |= _by_name((folder / "families").glob("*"))
    if not isinstance(name, str) or name not in families:
        raise _invalid(
            document.place((_FAMILY_KEY,)),
            f"'{_FAMILY_KEY}': found {_shown(name)}, must be one of {', '.join(sorted(families))}"
            f"{guess(str(name), families)}",
        )
    return families[name]


def _fill_in(value: Any, texts: Mapping[str, str]) -> Any:
    """Replaces placeholders like `{image_size}` in all texts of a YAML value.

    Raises:
        KeyError: there is no text for a placeholder.
    """
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda placeholder: texts[placeholder[1]], value)
        case dict():
            return {key: _fill_in(item, texts) for key, item in value.items()}
        case list():
            return [_fill_in(item, texts) for item in value]
    return value


def _with_labels(variant: Variant, place: Place) -> Variant:
    """Resolves the path of the class names, and checks that there is one name for each class."""
    if variant.labels is None:
        return variant
    if isinstance(variant.labels, tuple):
        if problem := labels_problem(variant.labels, variant.num_classes):
            raise _invalid(place, f"'labels': {problem}")
        return variant
    path, skip = place.path.parent / variant.labels.file, variant.labels.skip
    try:
        names = read_labels(path)
    except UsageError as error:
        raise _invalid(place, f"'labels': cannot read {path}: {error.why}") from None
    if problem := labels_problem(names, variant.num_classes, path, skip):
        raise _invalid(place, f"'labels': {problem}")
    return variant.model_copy(update={"labels": LabelFile(file=str(path), skip=skip)})


def _mapping(document: Document) -> dict[str, Any]:
    if not isinstance(document.value, dict):
        raise ConfigError(
            f"{document.path}:1: not a valid variant",
            why=f"found {_shown(document.value)}, must be a mapping of keys to values",
            fix="write one key per line, like `network: mobilenet_v2`",
        )
    return document.value


def _findings(document: Document, error: pydantic.ValidationError) -> Iterator[tuple[Place, str]]:
    """Yields each mistake that pydantic found: its place, and what is there and what is allowed."""
    problems = error.errors(include_url=False, include_context=False)
    # A misspelt key is also reported as missing. The misspelling comes first.
    for problem in sorted(problems, key=lambda problem: problem["type"] == "missing"):
        # The parameters of a network's family stand beside the other keys.
        location, found = problem["loc"][problem["loc"][0] == "family_parameters" :], problem["input"]
        key = ".".join(map(str, location))
        place = document.place(location)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(document) if len(location) == 1 else _NESTED_KEYS[location[0]]
            yield place, f"unknown key '{key}'{guess(str(location[-1]), known)}; known keys: {', '.join(known)}"
        elif problem["type"] == "missing":
            yield place, f"missing key '{key}'"
        else:
            # Of a text that stands for a mapping, pydantic names a key within.
            while len(location) > 1 and location not in document.places:
                location = location[:-1]
            key = ".".join(map(str, location))
            # Pydantic puts words of its own around what the value must be.
            wanted = re.sub("^(Input should be|Value error,) ", "", problem["msg"].replace("valid tuple", "valid list"))
            wanted = re.sub("^Tuple should have (.*) after validation.*", r"a list of \1", wanted)
            yield place, f"'{key}': found {_shown(found)}, must be {wanted}"


def _known_keys(document: Document) -> list[str]:
    """Returns the keys of a variant's file, with the parameters of its network's family, or else of all families."""
    family = FAMILIES.get(str(document.value.get("network")))
    return [*_KEYS, *(family.parameters.model_fields if family else sorted(PARAMETER_NAMES))]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
