"""Files are there whole or not at all."""

from pathlib import Path

import pytest

from precond.files import write_whole


@pytest.mark.parametrize(("content", "expected"), [("über\n", "über\n".encode()), (b"\x00\n", b"\x00\n")])
def test_a_file_is_replaced(tmp_path, content, expected):
    path = tmp_path / "a.yaml"
    for _ in range(2):
        write_whole(path, content)
        assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_what_was_there_stays_when_the_disk_is_full(tmp_path, monkeypatch, step):
    path = tmp_path / "a.yaml"
    write_whole(path, "before")
    real = Path.write_bytes

    def full(self, content):
        if step == "write_bytes":
            real(self, content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
