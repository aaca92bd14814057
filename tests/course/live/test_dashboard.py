"""The machinery: one draw per change, errors in sight, a still for other readers."""

import nbformat
import pytest
from nbconvert import HTMLExporter

from minquant.course.drawing import palette
from minquant.course.drawing.figures import plot
from minquant.course.live.controls import integer, switch
from minquant.course.live.dashboard import ERROR_CLASS, Dashboard, Frame, Spot


class Square:
    """A widget of one number: draws its square, counts how often, fails at 13."""

    def __init__(self):
        self.drawn = []

    @palette.style()
    def draw(self, n, faint):
        self.drawn.append((n, faint))
        if n == 13:
            raise ValueError("n is 13 <unlucky>; choose 12")
        fig, ax = plot("n", "n²", alt=f"One dot at {n}, {n * n}.", height=100)
        ax.plot([n], [n * n], "o", alpha=0.5 if faint else 1)
        off = {"faint"} if n == 0 else ()
        return Frame(fig, f"<p>{n}² = {n * n}</p>", "<i>more</i>", [_spot(n)], off)


def _spot(n):
    return Spot(1, 2, 3, 4, f"n < {n + 1}")


@pytest.fixture
def square():
    return Square()


@pytest.fixture
def dashboard(square):
    return Dashboard(
        square.draw, {"n": integer("n", 3, 0, 99), "faint": switch("faint", False)}
    )


def shown(dashboard):
    """All HTML on the page: of every child of the box that has some."""
    return "".join(getattr(child, "value", "") for child in dashboard.box.children)


def test_a_dashboard_draws_once_at_the_start(dashboard, square):
    assert square.drawn == [(3, False)]
    assert "3² = 9" in shown(dashboard)
    assert dashboard.alt == "One dot at 3, 9."


def test_a_moved_control_draws_the_new_state(dashboard, square):
    dashboard.controls["n"].box.children[1].value = 5  # the slider
    assert square.drawn[1:] == [(5, False)]
    assert 'alt="One dot at 5, 25."' in shown(dashboard)


def test_several_controls_set_from_code_are_drawn_once(dashboard, square):
    dashboard.set(n=4, faint=True)
    assert square.drawn[1:] == [(4, True)]


def test_a_state_already_drawn_is_not_drawn_again(dashboard, square):
    dashboard.set(n=3)
    assert len(square.drawn) == 1


def test_an_unknown_control_is_named(dashboard):
    with pytest.raises(ValueError, match="size is no control .*; choose from n, faint"):
        dashboard.set(size=1)


def test_an_error_is_shown_in_place_and_the_picture_stays(dashboard):
    dashboard.set(n=13)
    assert isinstance(dashboard.error, ValueError)
    html = shown(dashboard)
    assert ERROR_CLASS in html
    assert "ValueError: n is 13 &lt;unlucky&gt;; choose 12" in html
    assert 'alt="One dot at 3, 9."' in html


def test_an_error_goes_when_the_next_draw_works(dashboard):
    dashboard.set(n=13)
    dashboard.set(n=3)  # the state before: it is drawn again
    assert dashboard.error is None
    assert ERROR_CLASS not in shown(dashboard)


def test_an_error_in_the_first_draw_stops_the_cell(square):
    with pytest.raises(ValueError, match="unlucky"):
        Dashboard(
            square.draw, {"n": integer("n", 13, 0, 99), "faint": switch("f", False)}
        )


def test_a_picture_without_alt_text_is_an_error():
    def silent():
        return Frame(plot("x", "y")[0])

    with pytest.raises(ValueError, match="alt is empty"):
        Dashboard(silent, {})


def test_controls_that_mean_nothing_are_switched_off(dashboard):
    assert not dashboard.controls["faint"].parts[0].disabled
    dashboard.set(n=0)
    assert dashboard.controls["faint"].parts[0].disabled


def test_texts_under_the_pointer_lie_at_their_places_and_are_escaped(dashboard):
    html = shown(dashboard)
    assert 'x="1.0" y="2.0" width="3.0" height="4.0"' in html
    assert "<title>n &lt; 4</title>" in html


def test_one_output_holds_the_widget_and_a_still(dashboard):
    bundle = dashboard._repr_mimebundle_()
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == dashboard.box.model_id
    still = bundle["text/html"]
    assert 'alt="One dot at 3, 9."' in still
    assert "3² = 9" in still
    assert "n: 3 · faint: off" in still
    assert bundle["text/plain"] == dashboard.alt


def test_a_page_made_of_the_notebook_shows_the_still(dashboard):
    output = nbformat.v4.new_output("display_data", dashboard._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("widget", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count('alt="One dot at 3, 9."') == 1


def test_the_time_of_a_redraw_is_known(dashboard):
    assert dashboard.redraw_ms > 0
