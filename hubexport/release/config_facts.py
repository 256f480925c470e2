"""What a config says of a variant, as a release publishes it: in full in statements, and as digests in the index."""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from hubexport.labels import labels_content
from hubexport.variants import ModuleSpec, Variant

# These show in pages only. Of the checkpoint, modules depend on the names in its archive, too.
_NOT_IN_MODULES = {"license", "published", "checkpoint"}
# A path, of which the names count; and what to build by default.
_NOT_PUBLISHED = {"labels", "modules"}


class _Labels(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    labels: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


@dataclasses.dataclass(frozen=True)
class ConfigFacts:
    """The facts of a config that decide what modules and their pages contain.

    Attributes:
        variant: the variant. Its labels and its list of modules do not count.
        labels_sha256: the digest of the names of its classes, as modules contain them; None if they have no names.
    """

    variant: Variant
    labels_sha256: str | None

    @classmethod
    def of(cls, variant: Variant) -> "ConfigFacts":
        """Returns the facts of a variant.

        Raises:
            UsageError: the file of labels cannot be read.
        """
        names = variant.class_names()
        return cls(variant, hashlib.sha256(labels_content(names)).hexdigest() if names else None)

    @classmethod
    def parse(cls, document: Mapping[str, Any], spec: ModuleSpec) -> "ConfigFacts":
        """Reads the facts from a document like that of `as_json`.

        Args:
            document: the facts.
            spec: the only module of the variant.
        Raises:
            pydantic.ValidationError: the document describes no variant.
        """
        labels = _Labels.model_validate(document).labels
        facts = {name: value for name, value in document.items() if name not in _NOT_PUBLISHED}
        return cls(Variant.model_validate({**facts, "modules": [str(spec)]}), labels)

    def as_json(self) -> dict[str, Any]:
        """Returns the facts for `json.dumps`, with the digest under `labels`."""
        return {**self.variant.model_dump(mode="json", exclude=_NOT_PUBLISHED), "labels": self.labels_sha256}

    def network_sha256(self) -> str:
        """Returns a digest of the facts that modules contain, and of the checkpoints' names in their archive."""
        checkpoint = self.variant.checkpoint
        facts = {name: value for name, value in self.as_json().items() if name not in _NOT_IN_MODULES}
        return digest({**facts, "checkpoint": [checkpoint.name, checkpoint.raw_name] if checkpoint else None})

    def description_sha256(self) -> str:
        """Returns a digest of the facts that show in pages only."""
        return digest(self.variant.model_dump(mode="json", include=_NOT_IN_MODULES))


def digest(facts: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of facts as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
