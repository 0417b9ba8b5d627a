"""Pages in a browser: they load without a word or a request, the viewer draws and moves, tables are saved."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from heliodor.report import write_report

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def page(run, tmp_path) -> Path:
    return write_report(run(), tmp_path / "r.html").path


def pixels(seen) -> bytes:
    return seen.page.locator("canvas[data-part=canvas]").screenshot()


def colours(picture: bytes) -> int:
    from matplotlib.image import imread

    image = np.round(imread(io.BytesIO(picture))[..., :3] * 255).astype(int)
    return len(np.unique(image.reshape(-1, 3), axis=0))


def settled(seen) -> None:
    seen.page.wait_for_selector("#viewer[data-state=ready]", timeout=30_000)
    seen.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_loads_without_complaint_or_network(page, look):
    seen = look(page)
    seen.ready()
    settled(seen)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [page.absolute().as_uri()]
    plots = seen.page.locator(".plot")
    assert plots.count() == 9
    assert seen.page.locator(".plot .main-svg").count() >= 9
    assert "could not be drawn" not in seen.page.inner_text("body")
    # every kind of panel came to something
    for title, wanted in (
        ("lines", ".js-line"),
        ("points", "path.point"),
        ("map", ".hm image"),
        ("letters", ".hm image"),
    ):
        figure = seen.page.locator("figure", has=seen.page.locator(f".title:text-is('{title}')"))
        assert figure.locator(wanted).count() > 0, title
    letters = seen.page.locator("figure", has=seen.page.locator(".title:text-is('letters')"))
    assert "<b>GLY</b> 2" in letters.locator(".plot").text_content()
    assert letters.locator(".keys").inner_text().split("\n") == ["H helix", "E strand", "T turn", "coil"]


def test_the_viewer_draws_and_the_slider_moves_it(page, look):
    seen = look(page)
    settled(seen)
    first = pixels(seen)
    assert colours(first) > 50
    slider = seen.page.locator("[data-part=slider]")
    assert slider.get_attribute("max") == "11"
    slider.fill("7")
    settled(seen)
    assert pixels(seen) != first
    assert seen.page.locator("[data-part=time]").inner_text() == "0.070 ps · frame 8"
    slider.fill("0")
    settled(seen)
    assert pixels(seen) == first


def test_keys_mouse_and_choices_change_the_picture(page, look):
    seen = look(page)
    settled(seen)
    canvas = seen.page.locator("canvas[data-part=canvas]")
    canvas.focus()
    pictures = [pixels(seen)]

    def changed() -> None:
        settled(seen)
        pictures.append(pixels(seen))
        assert pictures[-1] != pictures[-2]

    for key in ("ArrowLeft", "ArrowUp", "+", "."):
        seen.page.keyboard.press(key)
        changed()
    box = canvas.bounding_box()
    seen.page.mouse.move(box["x"] + 300, box["y"] + 200)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 380, box["y"] + 230, steps=3)
    seen.page.mouse.up()
    changed()
    seen.page.select_option("[data-part=style]", "spheres")
    changed()
    seen.page.select_option("[data-part=colour]", "molecule")
    changed()
    # an atom under the mouse says its name: spheres of ethanol fill the middle
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = seen.page.locator("[data-part=label]").inner_text()
    assert any(element in label for element in "CHO")
    seen.page.click("[data-part=play]")
    seen.page.wait_for_timeout(300)
    assert seen.page.locator("[data-part=play]").inner_text() == "Pause"
    seen.page.click("[data-part=play]")
    assert seen.page.locator("[data-part=slider]").input_value() != "1"
    with seen.page.expect_download() as saved:
        seen.page.click("[data-part=save]")
    assert Path(saved.value.path()).read_bytes()[:4] == b"\x89PNG"


def test_tables_are_saved_at_full_precision(page, look):
    seen = look(page)
    seen.ready()
    with seen.page.expect_download() as saved:
        seen.page.click("button[data-table]:text-is('curve')")
    assert saved.value.suggested_filename == "curve.csv"
    rows = list(csv.DictReader(Path(saved.value.path()).open()))
    assert [float(row["x_A"]) for row in rows] == np.linspace(0.1, 10.0, 50).tolist()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_are_saved(page, look, kind):
    seen = look(page)
    seen.ready()
    with seen.page.expect_download() as saved:
        seen.page.locator(f"button[data-plot={kind}]").last.click()
    assert saved.value.suggested_filename == f"every_letters.{kind}"
    content = Path(saved.value.path()).read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<svg")
    assert seen.complaints == []


def brightness(seen) -> float:
    colour = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(x) for x in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def test_light_and_dark(page, look):
    dark = look(page, color_scheme="dark")
    assert brightness(dark) < 60
    dark.page.click("#theme")
    assert brightness(dark) > 200
    dark.page.click("#theme")
    assert brightness(dark) < 60
    assert brightness(look(page, color_scheme="light")) > 200


def test_narrow_screens_need_no_sideways_scrolling(page, look):
    seen = look(page, viewport={"width": 390, "height": 800}, has_touch=True)
    seen.ready()
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


def test_prints(page, look):
    seen = look(page, color_scheme="dark")
    settled(seen)
    assert seen.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert seen.complaints == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("HTMLCanvasElement.prototype.getContext = () => null;", "needs WebGL 2"),
        ("delete globalThis.DecompressionStream;", "DecompressionStream"),
    ],
)
def test_old_browsers_get_a_picture(page, look, missing, words):
    seen = look(page, script=missing)
    seen.page.wait_for_selector("#viewer[data-state=still]")
    assert words in seen.page.locator("[data-part=message]").inner_text()
    assert seen.page.locator("[data-part=still] svg circle").count() == 9
    assert not seen.page.locator("canvas[data-part=canvas]").is_visible()


def test_several_runs(run, tmp_path, look):
    paths = [run("<b>one</b>"), run("two", frames=5, temperature=350.0)]
    seen = look(write_report(paths, tmp_path / "both.html").path)
    seen.ready()
    settled(seen)
    assert seen.complaints == []
    assert seen.page.locator("h1").inner_text() == "<b>one</b> and two"
    seen.page.select_option("[data-part=run]", "1")
    seen.page.wait_for_selector("[data-part=slider][max='4']")
    legend = seen.page.locator("figure", has=seen.page.locator(".title:text-is('lines')")).locator(".legendtext")
    assert legend.all_text_contents() == ["<b>one</b> · with band", "two · with band", "measured"]
