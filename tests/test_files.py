import os
import shutil
import signal

import keras
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


@pytest.fixture
def ctrl_c():
    """Presses it; where the tests run in the background, it is ignored otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("call", ["close", "rmdir", "unlink"])
def test_ctrl_c_while_it_tidies_up_is_not_lost(tmp_path, monkeypatch, ctrl_c, call):
    original, pressed = getattr(os, call), []

    def interrupted(*arguments, **options):
        original(*arguments, **options)
        if not pressed:
            pressed.append(True)
            ctrl_c()

    def fail():
        with staged(tmp_path) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text("text")
            monkeypatch.setattr(os, call, interrupted)
            raise ValueError("so that there is something to remove")

    with pytest.raises(KeyboardInterrupt):
        fail()
    monkeypatch.undo()
    assert pressed
    assert not [*tmp_path.iterdir()]


def test_ctrl_c_that_keras_catches_while_it_saves_is_not_lost(
    tmp_path, monkeypatch, ctrl_c
):
    pressed = []

    def memory(model):
        pressed.append(True)
        ctrl_c()
        return True

    monkeypatch.setattr("keras.src.saving.saving_lib.is_memory_sufficient", memory)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "lost.keras")  # if this raises, `staged` need not care
    assert pressed
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "new") as folder:
        model.save(folder / "model.keras")


def test_a_handler_of_somebody_else_is_left_alone(tmp_path, ctrl_c):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    with staged(tmp_path) as folder:
        ctrl_c()
        (folder / "file").write_text("text")
    assert heard == [True]
    assert (tmp_path / "file").exists()
    signal.signal(signal.SIGINT, before)


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
