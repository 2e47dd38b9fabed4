"""`spectra`: its file against dense algebra of the same frame, what it refuses, the committed one."""

import json

import numpy as np
import pytest

from app.cli import main
from app.environment import ROOT
from precond import available_preconditioners
from precond.problems.gallery import problem


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("spectra") / "new" / "small.json"
    assert main(["spectra", "--out", str(path), "--cells", "100"]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_preconditioner_on_both_frames(measured):
    assert {"command", "date", "commit", "versions", "hardware", "settings"} < set(measured)
    assert [(case["family"], case["contrast"], case["cells"]) for case in measured["cases"]] == [
        ("barriers", None, 100),
        ("bubbles", 10_000.0, 100),
    ]
    for case in measured["cases"]:
        assert [row["preconditioner"] for row in case["rows"]] == available_preconditioners(choosing=False)
        for row in case["rows"]:
            assert len(row["eigenvalues"]) == 99
            assert (row["condition_number"] is None) == (row["negative"] > 0)
            assert len(row["history"]) == row["iterations"] + 1
            if row["outcome"] == "converged":
                assert row["history"][-1] <= 1e-10


def test_plain_conjugate_gradients_have_the_matrix_eigenvalues(measured):
    for case in measured["cases"]:
        matrix = problem(case["family"], 100, 0, "test", case["contrast"]).operator().to_csr().toarray()
        expected = np.linalg.eigvalsh(matrix)[1:]
        rows = {row["preconditioner"]: row for row in case["rows"]}
        np.testing.assert_allclose(rows["none"]["eigenvalues"], expected, rtol=1e-3)
        assert rows["none"]["condition_number"] == pytest.approx(expected[-1] / expected[0], rel=1e-6)
        assert rows["direct"]["eigenvalues"] == [1.0] * 99
        assert rows["direct"]["iterations"] == 1


def test_wrong_use_is_one_line_and_exit_code_2(tmp_path, capsys):
    occupied = tmp_path / "file"
    occupied.write_text("mine", encoding="utf-8")
    for arguments, fragment in (
        (["--cells", "100"], "--out"),
        (["--out", str(tmp_path / "x.json"), "--cells", "10"], "--cells: 10"),
        (["--out", str(tmp_path / "x.json"), "--cells", "5000"], "64 to 4096"),
        (["--out", str(tmp_path / "x.json"), "--cells", "many"], "--cells"),
        (["--out", str(tmp_path)], "is a directory"),
        (["--out", str(occupied)], "is there already"),
        (["--out", str(occupied / "x.json")], "file of that name"),
        (["--out", "/proc/self/new/x.json"], "cannot be written"),
    ):
        assert main(["spectra", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert fragment in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert occupied.read_text(encoding="utf-8") == "mine"


def test_the_committed_file_is_small_and_of_the_benchmark():
    path = ROOT / "assets" / "reference" / "spectra-1024.json"
    assert path.stat().st_size < 300_000
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {case["cells"] for case in content["cases"]} == {1024}
    assert content["settings"]["rtol"] == 1e-10
    assert "+changes" not in content["commit"]
