"""Writes variants as the YAML files that `hubexport.config_files` reads."""

import os

import yaml

from hubexport.variants import LabelFile, Variant

_LINE_CHARACTERS = 120


def variant_yaml(variant: Variant) -> str:
    """Returns the content of a variant's config, without any shared values.

    In a file of the variant's name, like `flowers.yaml`, `load_variant` reads the same variant from it. The path of a
    file of labels becomes absolute, so that the config may be in any folder.

    Args:
        variant: the variant.
    """
    fields = variant.model_dump(mode="json", exclude={"name", "labels", "modules"}, exclude_none=True)
    for key in ("publisher", "collection"):  # What the network is comes first.
        fields[key] = fields.pop(key)
    match variant.labels:
        case LabelFile(file=file, skip=0):
            fields["labels"] = os.path.abspath(file)
        case LabelFile(file=file, skip=skip):
            fields["labels"] = {"file": os.path.abspath(file), "skip": skip}
        case tuple():
            fields["labels"] = list(variant.labels)
    fields["modules"] = list(map(str, variant.modules))
    # Lists of texts are in one line, as long as they fit.
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=None, width=_LINE_CHARACTERS)
