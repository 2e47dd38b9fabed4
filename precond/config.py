"""Read a YAML file that a person wrote, with every way it can be wrong as one sentence."""

from pathlib import Path
from typing import Any

import yaml


class YamlFileError(ValueError):
    """A file that cannot be read as YAML; the message says why, without the file's name."""


class _Loader(yaml.SafeLoader):
    """Plain values alone; a name given twice, of which YAML would keep the second, is an error."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({text for tag, text in names if names.count((tag, text)) > 1 and text != "<<"})
        if twice:
            problem = f"{', '.join(twice)}: given twice"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=node.start_mark)
        return node


def read_yaml(path: str | Path) -> Any:
    """Plain values from the YAML file ``path``. Raises YamlFileError."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise YamlFileError(f"is not YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise YamlFileError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlFileError("cannot be read: it is not a text file") from error
    except (ValueError, RecursionError) as error:  # impossible dates, endless digits, endless nesting
        raise YamlFileError(f"cannot be read: {' '.join(str(error).split())}") from error
