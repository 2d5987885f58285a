import os

import pytest

from fleetctl.agent.files import Files, StateError
from fleetctl.rendezvous.messages import Promised


@pytest.fixture
def pod(tmp_path):
    class Pod:
        state, shared, said = tmp_path / "state", tmp_path / "shared", []

        def files(self):
            return Files(str(self.state), str(self.shared), self.said.append)

        def load(self):
            return self.files().load()

        def lives(self, life_id, at=1000.0):
            (self.state / "life").write_text(f"{life_id}\n")
            os.utime(self.state / "life", (at, at))

    pod = Pod()
    pod.state.mkdir()
    pod.shared.mkdir()
    pod.lives("one")
    pod.said.clear()
    return pod


def test_a_fresh_life_remembers_nothing(pod):
    assert pod.load() == ("one", 1000.0, None, 0, 0)
    assert pod.said == []


def test_the_same_life_finds_its_promise_and_its_release(pod):
    files = pod.files()
    files.load()
    files.keep_promise(3, "t")
    assert pod.load() == ("one", 1000.0, Promised(3, "t"), 0, 3)
    files.keep_release(3)
    assert pod.load() == ("one", 1000.0, Promised(3, "t"), 3, 3)
    assert (pod.shared / "attempt").read_text() == "3\n"


def test_a_new_life_keeps_the_floor_and_nothing_else(pod):
    files = pod.files()
    files.load()
    files.keep_promise(3, "t")
    files.keep_release(3)
    pod.lives("two", at=2000.0)
    assert pod.load() == ("two", 2000.0, None, 0, 3)


def test_the_trainer_is_told_its_attempt_before_the_release_is_kept(pod):
    files = pod.files()
    files.load()
    pod.shared.rmdir()
    with pytest.raises(StateError, match="attempt"):
        files.keep_release(3)
    assert pod.load().released_attempt == 0


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"life":"one"}', '{"life":"one","attempt":true,"ticket":"t"}', "[" * 100_000, "\udcff"],
    ids=lambda text: text[:20],
)
def test_a_corrupt_file_counts_as_absent_and_is_said(pod, content):
    for name in ("promise", "released"):
        (pod.state / name).write_bytes(content.encode(errors="surrogateescape"))
    assert pod.load() == ("one", 1000.0, None, 0, 0)
    assert ["promise" in pod.said[0], "released" in pod.said[1]] == [True, True]


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_a_life_id_it_says_who_should_have_written_it(pod, content):
    (pod.state / "life").unlink()
    if content is not None:
        (pod.state / "life").write_text(content)
    with pytest.raises(StateError, match="init container"):
        pod.load()


def test_a_half_written_file_of_a_crash_does_not_count(pod):
    (pod.state / "promise.new").write_text('{"life":"one","attem')
    assert pod.load().promise is None
