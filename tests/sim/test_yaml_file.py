"""YAML that people write: a name given twice is an error, what only looks like it is not."""

import pytest
import yaml

from precond.config import YamlFileError, read_yaml

MERGED = """
base: &a {x: 1}
deep: {inner: &b {<<: *a, x: 2}}
c: {<<: *b, y: 1}
"""


def read(tmp_path, text):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "a: 1\nb: [1, {c: 1, c: 2}]", "a: {b: {x: 1, y: 2, x: 1}}"])
def test_a_name_given_twice_is_an_error(tmp_path, text):
    with pytest.raises(YamlFileError, match="given twice"):
        read(tmp_path, text)


def test_a_merged_mapping_may_be_changed(tmp_path):
    assert read(tmp_path, MERGED) == yaml.safe_load(MERGED)
    assert read(tmp_path, "{1: a, '1': b}") == {1: "a", "1": "b"}
