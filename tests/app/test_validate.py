"""`validate`: cases that pass on coarse grids, the file they leave, a figure that misses, what is refused."""

import json

import numpy as np
import pytest

from app.cli import main
from app.commands import validate
from app.validation.capillary_wave import prosperetti
from app.validation.case import Case, crossing, disc, load_known, under

HALVES = (list(validate.CASES)[::2], list(validate.CASES)[1::2])


@pytest.mark.parametrize("half", HALVES)
def test_quick_cases_pass_and_leave_a_file_and_figures(half, tmp_path):
    out = tmp_path / "new"
    assert main(["validate", "--quick", "--out", str(out), "--cases", *half]) == 0
    results = json.loads((out / "validation.json").read_text(encoding="utf-8"))
    assert {"command", "date", "commit", "versions", "hardware", "quick"} < set(results)
    assert [case["case"] for case in results["cases"]] == half
    for case in results["cases"]:
        assert case["source"]
        assert all(figure["passed"] and figure["value"] is not None for figure in case["figures"])
        assert (out / f"{case['case']}.svg").exists()


def test_a_figure_that_misses_ends_with_1(monkeypatch, capsys):
    class Off(Case):
        def run(self):
            self.near("one", 1.2, 1.0, 1.0, 0.1)
            self.at_most("nothing", float("nan"), 1.0)

    monkeypatch.setitem(validate.CASES, "hydrostatic", Off)
    assert main(["validate", "--cases", "hydrostatic"]) == 1
    assert capsys.readouterr().out.count("MISSED") == 2


def test_wrong_use_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "validation.json").write_text("mine", encoding="utf-8")
    for arguments, fragment in ((["--cases", "drip"], "'drip'"), (["--out", str(tmp_path)], "there already")):
        assert main(["validate", *arguments]) == 2
        assert fragment in capsys.readouterr().err


def test_every_case_has_a_source_and_both_set_ups():
    known = load_known()
    assert set(known) == set(validate.CASES)
    assert all({"title", "source", "full", "quick"} <= set(case) for case in known.values())


def test_fractions_of_a_disc_and_under_a_curve_are_exact():
    assert disc((40, 40), 0.3, 0.4, 0.2).sum() / 1600 == pytest.approx(np.pi * 0.04, rel=1e-6)
    assert under((30, 20), lambda x: 0.2 + 0.1 * x).mean() == pytest.approx(0.2 + 0.1 * 0.75, rel=1e-9)
    assert crossing(np.array([1.0, 1.0, 0.75, 0.25, 0.0])) == pytest.approx(3.0)


def test_prosperettis_wave_starts_at_rest_and_is_damped():
    times = np.linspace(0.0, 0.05, 51)
    amplitude = prosperetti(times, 0.0182571749236, 0.01)
    assert amplitude[0] == pytest.approx(0.01)
    assert amplitude[1] / 0.01 == pytest.approx(1.0 - 0.25 * (2 * np.pi) ** 3 * 0.001**2, abs=2e-6)
    weak = prosperetti(np.array([2.0 * np.pi / np.sqrt(0.5 * (2.0 * np.pi) ** 3)]), 1e-7, 0.01)
    assert weak[0] == pytest.approx(0.01, rel=1e-2)
