"""Artists that move: by hand."""

from minquant.course.drawing import artists
from minquant.course.drawing.figures import Picture


def axes():
    """Axes on an empty sheet."""
    return Picture(300, 200).axes_at(20, 20, 260, 160)


def test_boxes_are_filled_from_their_four_sides():
    boxes = artists.boxes(axes(), "#000000")
    artists.fill(boxes, [0, 1], [0.5, 1.5], 0, [2, -3])
    corners = [path.vertices[:4].tolist() for path in boxes.get_paths()]
    assert corners[0] == [[0, 0], [0.5, 0], [0.5, 2], [0, 2]]
    assert corners[1] == [[1, 0], [1.5, 0], [1.5, -3], [1, -3]]


def test_a_number_is_repeated_along_the_segments():
    points = artists.segments(0, [1, 2], 9, [1, 2])
    assert points.tolist() == [[[0, 1], [9, 1]], [[0, 2], [9, 2]]]


def test_words_left_over_are_hidden():
    words = artists.words(axes(), 3, 0.5)
    artists.write(words, [1, 2, 3], "abc")
    artists.write(words, [4], "z")
    assert [w.get_text() for w in words if w.get_visible()] == ["z"]
    assert words[0].get_position() == (0.5, 4)
