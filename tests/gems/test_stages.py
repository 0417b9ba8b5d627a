"""Stages are done once, again when what they read changes, and not when it does not."""

import json
from pathlib import Path

import pytest

from heliodor.errors import InputError
from heliodor.stages import Stage, run_stages


def chain(folder: Path, log: list[str], first: str = "a", shout: bool = False) -> list[Stage]:
    """Write a word, double it, count it; the middle one does not read how loud the first was."""

    def write(tell):
        log.append("word")
        (folder / "word.txt").write_text(first.lower())
        return {"word": first}

    def double(tell):
        log.append("double")
        (folder / "double.txt").write_text((folder / "word.txt").read_text() * 2)
        return {}

    def count(tell):
        log.append("count")
        (folder / "count.txt").write_text(str(len((folder / "double.txt").read_text())))
        return {"letters": len((folder / "double.txt").read_text())}

    return [
        Stage("word", "writing", (), {"first": first, "shout": shout}, ("word.txt",), write),
        Stage("double", "doubling", ("word",), {}, ("double.txt",), double),
        Stage("count", "counting", ("double",), {}, ("count.txt",), count),
    ]


def test_unchanged_stages_are_skipped(tmp_path):
    log = []
    run_stages(chain(tmp_path, log), tmp_path)
    run_stages(chain(tmp_path, log), tmp_path)
    assert log == ["word", "double", "count"]


def test_a_change_is_followed_only_as_far_as_contents_change(tmp_path):
    log = []
    run_stages(chain(tmp_path, log), tmp_path)
    # other settings, same file: what reads the file has nothing new to do
    run_stages(chain(tmp_path, log, shout=True), tmp_path)
    assert log == ["word", "double", "count", "word"]
    done = run_stages(chain(tmp_path, log, first="bb", shout=True), tmp_path)
    assert log[4:] == ["word", "double", "count"]
    assert done["count"].facts == {"letters": 4}


@pytest.mark.parametrize("damage", ["gone", "changed", "record"])
def test_damaged_outputs_are_made_again(tmp_path, damage):
    log = []
    run_stages(chain(tmp_path, log), tmp_path)
    if damage == "gone":
        (tmp_path / "double.txt").unlink()
    elif damage == "changed":
        (tmp_path / "double.txt").write_text("other")
    else:
        record = tmp_path / "stages" / "double.json"
        record.write_text(record.read_text()[:-20])
    run_stages(chain(tmp_path, log), tmp_path)
    assert log[3:] == ["double"]
    assert (tmp_path / "double.txt").read_text() == "aa"


def test_touched_but_equal_outputs_are_left(tmp_path):
    log = []
    run_stages(chain(tmp_path, log), tmp_path)
    (tmp_path / "double.txt").write_text("aa")
    run_stages(chain(tmp_path, log), tmp_path)
    assert len(log) == 3


def test_a_stage_that_dies_is_done_again_and_those_before_it_are_not(tmp_path):
    log = []
    stages = chain(tmp_path, log)

    def dies(tell):
        log.append("dies")
        raise KeyboardInterrupt

    broken = [stages[0], Stage("double", "doubling", ("word",), {}, ("double.txt",), dies), stages[2]]
    with pytest.raises(KeyboardInterrupt):
        run_stages(broken, tmp_path)
    run_stages(stages, tmp_path)
    assert log == ["word", "dies", "double", "count"]


def test_a_stage_without_its_file_is_an_error(tmp_path):
    nothing = Stage("nothing", "idling", (), {}, ("never.txt",), lambda tell: {})
    with pytest.raises(InputError, match=r"nothing ended without making never\.txt"):
        run_stages([nothing], tmp_path)


def test_two_pipelines_do_not_share_a_folder(tmp_path):
    def again(tell):
        run_stages(chain(tmp_path, []), tmp_path)
        return {}

    with pytest.raises(InputError, match="another heliodor works"):
        run_stages([Stage("outer", "calling", (), {}, (), again)], tmp_path)


def test_records_can_be_read_by_people(tmp_path):
    run_stages(chain(tmp_path, []), tmp_path)
    record = json.loads((tmp_path / "stages" / "word.json").read_text())
    assert record["facts"] == {"word": "a"} and len(record["outputs"]["word.txt"]) == 64
