"""Reads the settings beside Hugging Face's weights: `config.json` and `preprocessor_config.json`.

The files are not trusted: they may be pipes, be huge, or name one setting twice.
"""

from collections.abc import Sequence
import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pydantic

from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.stored_values import unique_dict
from hubexport.errors import CheckpointError
from hubexport.layouts.huggingface_settings import MODEL_TYPE, ConfigSettings, PreprocessorSettings
from hubexport.networks.family import DepthMultiplier
from hubexport.system.damage import DamageError
from hubexport.system.regular_files import read_regular_file

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"

# Two names for each of 20,000 classes take 2 MB.
_MAX_BYTES = 16 << 20
# Longer than any sensible setting.
_MAX_DIGITS = 1000

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class _SettingsError(Exception):
    """A settings file is not what transformers writes; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class HuggingFaceSettings:
    """The settings beside weights.

    Attributes:
        directory: the directory of the weights.
        config: the settings in `config.json`; None if there is no such file.
        image_processor: the settings in `preprocessor_config.json`; None if there is no such file.
    """

    directory: Path
    config: ConfigSettings | None
    image_processor: PreprocessorSettings | None

    @property
    def image_size(self) -> int | None:
        """The height and width of the images in pixels; None if they differ or the settings do not give them."""
        if self.config is None or "image_size" not in self.config.model_fields_set:
            return None
        sizes = self.config.image_size if isinstance(self.config.image_size, list) else [self.config.image_size]
        return sizes[0] if len(set(sizes)) == 1 else None

    def problems(self, recognition: Recognition | None) -> tuple[str, ...]:
        """Returns a line for each setting that the network does not support, with its value and the supported one.

        Args:
            recognition: the network of the weights; None if it is not known.
        """
        if self.config is None:
            return ()
        parameters = recognition.parameters if recognition else None
        return tuple(self.config.problems(parameters if isinstance(parameters, DepthMultiplier) else None))

    def warnings(self, recognition: Recognition) -> list[str]:
        """Returns how the image processor's preparation of images differs from that of modules."""
        if self.image_processor is None:
            return []
        warnings = self.image_processor.warnings(recognition.network().input_range)
        return [f"{self.directory / PREPROCESSOR}: {warning}" for warning in warnings]

    def refusal(self, problems: Sequence[str]) -> CheckpointError:
        """Returns the error for settings that the network does not support."""
        return CheckpointError(
            f"cannot use the weights of {self.directory}",
            why=f"its {CONFIG} describes a network that hubexport does not have",
            details=problems,
            fix=f"use weights that were trained with these settings, or move them if that {CONFIG} is not theirs",
        )


def read_settings(directory: Path) -> HuggingFaceSettings:
    """Reads the settings in a directory of weights.

    Raises:
        CheckpointError: a file cannot be read, is too large, is not a JSON object, or has a setting of the wrong type.
    """
    try:
        return HuggingFaceSettings(
            directory,
            _read_settings_file(directory / CONFIG, ConfigSettings),
            _read_settings_file(directory / PREPROCESSOR, PreprocessorSettings),
        )
    except _SettingsError as error:
        raise CheckpointError(
            f"cannot read the settings of {directory}",
            why=str(error),
            fix="fetch or save the model again, or move the weights if that file is not theirs",
        ) from error


def named_architecture(directory: Path) -> str | None:
    """Returns what the `config.json` of Hugging Face or timm calls a network that is not a MobileNet V2.

    Returns:
        Like `ResNetForImageClassification of Hugging Face` or `mobilenetv3_rw of timm`; None if the file is missing,
        damaged or does not say.
    """
    try:
        settings = _parse_json(read_regular_file(directory / CONFIG, _MAX_BYTES), CONFIG)
    except (OSError, _SettingsError):
        return None
    if isinstance(name := settings.get("architecture"), str):
        return f"{name} of timm"
    architectures = settings.get("architectures")
    model_type = settings.get("model_type")
    if model_type == MODEL_TYPE or not isinstance(model_type, str):
        return None
    name = architectures[0] if isinstance(architectures, list) and architectures else model_type
    return f"{name} of Hugging Face"


def _read_settings_file(path: Path, model: type[_Model]) -> _Model | None:
    if not os.path.lexists(path):
        return None
    try:  # Links are followed: Hugging Face's cache consists of them.
        content = read_regular_file(path, _MAX_BYTES)
    except OSError as error:
        raise _SettingsError(f"{path.name} cannot be read: {error.strerror}") from error
    try:
        return model.model_validate(_parse_json(content, path.name))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _SettingsError(f"{path.name}: {first['loc'][0]} is wrong: {first['msg']}") from error


def _parse_json(content: bytes, name: str) -> dict[str, Any]:
    def refuse(why: str) -> NoReturn:
        raise _SettingsError(f"{name} {why}")

    def parse_int(text: str) -> int:
        return int(text) if len(text) <= _MAX_DIGITS else refuse(f"holds a number of {len(text)} digits")

    def parse_float(text: str) -> float:  # It also gets the constants NaN and Infinity.
        number = float(text)
        return number if math.isfinite(number) else refuse(f"holds {text[:_MAX_DIGITS]}, which is no number")

    try:
        parsed = json.loads(
            content.decode(),
            object_pairs_hook=unique_dict,
            parse_int=parse_int,
            parse_float=parse_float,
            parse_constant=parse_float,
        )
    except RecursionError:
        refuse("is nested too deeply")
    except DamageError as error:
        raise _SettingsError(f"{name} cannot be read: {error}") from error
    except ValueError as error:
        raise _SettingsError(f"{name} is not valid JSON") from error
    return parsed if isinstance(parsed, dict) else refuse("is not an object")
