"""The table of families: what the page says is what the script finds, and the script can say no."""

from pathlib import Path

import pytest

from scripts import families
from vla_rl.models.families import FAMILIES
from vla_rl.models.samples import SAMPLES, sample

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_every_family_has_a_sample_a_name_and_a_row_without_an_empty_cell() -> None:
    kinds = {sample(name)[0].model_type for name in SAMPLES}
    assert kinds == FAMILIES.keys() - {"vla_tiny", "vla_smollm"}
    assert families.NAMES.keys() == set(SAMPLES)
    text = PAGE.read_text("utf-8").partition(families.BEGIN)[2].partition(families.END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    assert rows[0] == ["family", *families.COLUMNS]
    assert [row[0] for row in rows[2:]] == [families.NAMES[name] for name in SAMPLES]
    assert all(cell for row in rows for cell in row)


def test_what_does_not_work_is_said_in_its_cell() -> None:
    def breaks() -> None:
        raise ValueError("no eyes\nand more")

    assert families.outcome(breaks) == "no: ValueError: no eyes"
    assert families.outcome(lambda: None) == "yes"


def test_one_family_does_everything(capsys: pytest.CaptureFixture[str]) -> None:
    rows = families.main(["paligemma2"])
    assert rows == {"paligemma2": dict.fromkeys(families.COLUMNS, "yes")}
    assert "| PaliGemma 2 | yes" in capsys.readouterr().out


@pytest.mark.slow
def test_all_of_them_do() -> None:
    assert families.main([]) == {name: dict.fromkeys(families.COLUMNS, "yes") for name in SAMPLES}
