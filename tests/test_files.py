import os
import shutil

import pytest

from pgmpf_tf._files import remove_leftovers, staged


def fill(folder, text):
    (folder / "file").write_text(text)
    (folder / "tree" / "leaf").mkdir(parents=True)
    (folder / "tree" / "leaf" / text).write_text(text)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_entries_appear_together_and_replace_older_ones(tmp_path):
    (tmp_path / "kept").write_text("mine")
    for text in ("one", "two"):
        with staged(tmp_path) as folder:
            fill(folder, text)
            visible = [name for name in os.listdir(tmp_path) if name[0] != "."]
            assert text == "two" or visible == ["kept"]
        assert contents(tmp_path) == {
            "kept": "mine",
            "file": text,
            f"tree/leaf/{text}": text,
        }


def test_a_file_may_replace_a_folder_and_the_reverse(tmp_path):
    (tmp_path / "file").mkdir()
    (tmp_path / "tree").write_text("a file")
    with staged(tmp_path) as folder:
        fill(folder, "new")
    assert contents(tmp_path) == {"file": "new", "tree/leaf/new": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(tmp_path, error):
    def fail(directory):
        with staged(directory) as folder:
            fill(folder, "new")
            raise error

    with pytest.raises(error):
        fail(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(error):
        fail(tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("call", ["close", "rmdir", "unlink"])
def test_ctrl_c_while_it_tidies_up_is_not_lost(tmp_path, monkeypatch, call):
    original, raised, seen = getattr(os, call), [], []

    def interrupted(*arguments, **options):
        original(*arguments, **options)
        if not raised:
            raised.append(True)
            raise KeyboardInterrupt

    try:
        with staged(tmp_path) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text("text")
            monkeypatch.setattr(os, call, interrupted)
            raise ValueError("so that there is something to remove")
    except KeyboardInterrupt:
        seen.append(True)
    except ValueError:
        pass
    monkeypatch.undo()
    assert seen == raised
    assert not [*tmp_path.iterdir()]


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path):
    kept = tmp_path / "kept" / "entry"
    kept.parent.mkdir()
    kept.write_text("mine")
    for place in (tmp_path, tmp_path / "kept"):
        with staged(place) as folder:
            fill(folder, "half")
            (left,) = place.glob(".*")
            copy = left.with_name(".export-copy.partial")
            shutil.copytree(left, copy)
    remove_leftovers(tmp_path)
    assert kept.read_text() == "mine"
    assert not [path for path in tmp_path.rglob("*") if path.name[0] == "."]
