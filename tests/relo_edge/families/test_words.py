"""A target in words: token ids, the words graph, and the sentence that a target is given."""

import gzip

import numpy as np
import pytest
import torch
from small_sutrack import SMALL, small_text_tower
from verbs import run_verb

from relo_edge.errors import InputError
from relo_edge.export.publishing import export_bundle
from relo_edge.families import words
from relo_edge.families.sentences import encode_sentence
from relo_edge.families.sutrack import FAMILY, TEXT
from relo_edge.families.words import Vocabulary, list_word_ids
from relo_edge.geometry import read_box
from relo_edge.network.checkpoint import Checkpoint, read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.runtime import open_runtime
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import Tracker

MERGES = ["r e", "re d</w>", "c a", "ca r</w>"]
START = 512 + len(MERGES)


@pytest.fixture(scope="module", autouse=True)
def small_vocabulary():
    with small_text_tower(START + 2), pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "MERGES", len(MERGES))
        yield


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "pairs.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["# pairs", *MERGES, "not used"]).encode()))
    return path


@pytest.fixture(scope="module")
def weights():
    return dict(draw_weights(SMALL))


@pytest.fixture(scope="module")
def bundle(vocabulary, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "w.pth").write_bytes(b"w")
    checkpoint = Checkpoint(SMALL, weights, folder / "w.pth")
    return export_bundle(checkpoint, folder / "b", words=vocabulary)


def spell(word):
    letters = list(words._name_bytes().values())
    return [*(letters.index(c) for c in word[:-1]), 256 + letters.index(word[-1])]


def test_pairs_are_merged_in_the_vocabularys_order(vocabulary):
    known = Vocabulary.read(vocabulary)
    assert known.encode("  Red   CAR ") == [512 + 1, 512 + 3]
    assert known.encode("cared") == [512 + 2, 512 + 1]
    assert known.encode("it's 42, é") == [
        *spell("it"),
        *spell("'s"),
        *spell("4"),
        *spell("2"),
        *spell(","),
        *spell("Ã©"),
    ]


@pytest.mark.slow
def test_the_graph_says_what_the_network_says(bundle, weights):
    made = encode_sentence(bundle, "red car")
    ids = torch.from_numpy(list_word_ids([START, 513, 515, START + 1])[None])
    network = FAMILY.build_network(SMALL, weights).module
    want = (network.encode_words(ids) - network.encode_words())[0].numpy()
    assert list(made) == [TEXT]
    np.testing.assert_allclose(made[TEXT], want, atol=1e-4 * max(1, np.abs(want).max()))
    assert np.abs(want).max() > 0.1


def test_a_sentence_moves_the_track(bundle):
    clip = make_clip(4, 3, (320, 240))
    frames, scores = list(clip.frames()), []
    with open_runtime(bundle, "onnxruntime") as runtime:
        for told in (None, encode_sentence(bundle, "red car"), None):
            tracker = Tracker(runtime, color="rgb", told=told)
            tracker.init(frames[0], read_box(clip.boxes[0]))
            scores.append(tracker.update(frames[1]).score)
    assert scores[0] == scores[2] != scores[1]


def test_a_damaged_vocabulary_is_refused(vocabulary, tmp_path):
    content = bytearray(vocabulary.read_bytes())
    content[10:40] = bytes(30)
    (tmp_path / "damaged.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.gz: found .*, expected a gzip of text"):
        Vocabulary.read(tmp_path / "damaged.gz")


@pytest.mark.parametrize(("sentence", "found"), [(" ", "0 tokens"), ("a " * 76, "76 tokens")])
def test_no_sentence_and_one_too_long_are_refused(bundle, sentence, found):
    with pytest.raises(InputError, match=f"sentence: found {found}, expected 1 to 75"):
        encode_sentence(bundle, sentence)


def test_what_takes_no_words_says_so(sutrack_bundle, vocabulary, tmp_path, capsys):
    with pytest.raises(InputError, match="takes no words; export a checkpoint of SUTrack with"):
        encode_sentence(sutrack_bundle, "red car")
    checkpoint = read_checkpoint(find_demo_checkpoint())
    with pytest.raises(InputError, match="RELO takes no words"):
        export_bundle(checkpoint, tmp_path / "out", words=vocabulary)
    assert not (tmp_path / "out").exists()
    for options, line in [
        ([sutrack_bundle.path], "sutrack-small takes no words; export a checkpoint of SUTrack"),
        ([], "--say needs a bundle that takes words; name it with --bundle"),
    ]:
        named = [word for path in options for word in ("--bundle", path)]
        start = ["track", "clip.mp4", "--init", "1,2,30,40", "--say", "red car"]
        code, _, err = run_verb(capsys, *start, *named)
        assert code == 1 or code == 2
        assert line in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"one line", mtime=0), b""])
def test_another_file_is_no_vocabulary(tmp_path, content):
    (tmp_path / "v.gz").write_bytes(content)
    with pytest.raises(InputError, match="vocabulary"):
        Vocabulary.read(tmp_path / "v.gz")
