"""The templates of pages, and what all of them may use."""

from urllib.parse import quote

import jinja2
from markupsafe import Markup

from hubexport import readable_numbers
from hubexport.site.listing import FORMATS, KINDS
from hubexport.variants import is_known_dataset

# Beside what an untrained module says of a photograph.
_MEANS_NOTHING = "The module is untrained: its values are made up, so this answer means nothing."


def template_environment() -> jinja2.Environment:
    """Returns the environment that loads the templates. It escapes what they insert."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubexport.site"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "readable": readable_numbers,
        "KINDS": KINDS,
        "FORMATS": FORMATS,
        "MEANS_NOTHING": _MEANS_NOTHING,
    }
    environment.tests["text"] = lambda value: isinstance(value, str)
    environment.tests["known_dataset"] = is_known_dataset
    # Lines may break after slashes.
    environment.filters["breakable"] = lambda path: Markup("/<wbr>").join(path.split("/"))
    environment.filters["quoted"] = lambda text: quote(text, safe="")
    return environment
