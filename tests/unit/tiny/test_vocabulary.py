from __future__ import annotations

from tests.tiny.vocabulary import BOS, EOS, LONG_PIECE, STORY, UNK, vocabulary


def test_layout() -> None:
    words = vocabulary()
    assert len(words.pieces) == 320
    assert [piece.id for piece in words.pieces] == list(range(320))
    assert [words.pieces[token].text for token in (UNK, BOS, EOS)] == ["<unk>", "<s>", "</s>"]
    assert [words.pieces[words.byte(value)].content for value in range(256)] == [
        bytes([value]) for value in range(256)
    ]
    assert (words.marker_up, words.marker_down) == (259, 260)
    assert len(words.upper) == 28


def test_one_piece_is_longer_than_32_bytes() -> None:
    assert max(len(piece.content) for piece in vocabulary().pieces) == len(LONG_PIECE) == 44


def test_merge_scores_are_unique() -> None:
    scores = [piece.score for piece in vocabulary().pieces if piece.kind == "normal"]
    assert len(set(scores)) == len(scores) == 58


def test_story_is_a_loop_of_distinct_pieces() -> None:
    words = vocabulary()
    token, seen = words.ids["▁m"], []
    for _ in STORY:
        seen.append(words.pieces[token].text)
        token = words.successors[token]
    assert tuple(seen) == STORY
    assert len(set(STORY)) == len(STORY)
    assert token == words.ids["▁m"]


def test_twins_have_the_same_successor() -> None:
    words = vocabulary()
    assert [words.successors[up] for up in words.upper.values()] == [
        words.successors[low] for low in words.upper
    ]


def test_control_pieces_have_no_text() -> None:
    words = vocabulary()
    assert [words.pieces[token].content for token in (UNK, BOS, EOS)] == [b"", b"", b""]
    assert words.pieces[words.marker_up].content == b"<up>"
