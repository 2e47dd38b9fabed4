"""`device-work`: a table of all methods that run on a device; wrong numbers of cells are refused."""

import pytest

from app.cli import main
from precond.host import compiled


@pytest.fixture
def _put_back(monkeypatch):
    monkeypatch.setattr(compiled, "used", compiled.used)


@pytest.mark.usefixtures("_put_back")
def test_every_method_that_runs_on_a_device_has_a_row(capsys):
    assert main(["device-work", "--cells", "256"]) == 0
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert rows["`jacobi`"][2].startswith("5 / ")
    assert "`amg`" not in rows
    plain, fused = rows["`multigrid`"], rows["`multigrid`, small levels fused"]
    assert fused[2].startswith("1 / ")  # all of 256 cells fits into one block
    assert float(fused[-1].replace(",", "")) < float(plain[-1].replace(",", ""))
    assert rows["`hmatrix`"][1] != "-"
    assert rows["`coarse-iterated`"][1] == "-"  # it asks no network


@pytest.mark.parametrize("cells", ["5", "65537", "many"])
def test_other_numbers_of_cells_are_refused(cells, capsys):
    assert main(["device-work", "--cells", cells]) == 2
    assert capsys.readouterr().err.count("\n") == 1
