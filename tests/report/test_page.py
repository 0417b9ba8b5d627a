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


def figure(seen, title: str):
    return seen.page.locator("figure", has=seen.page.locator(f".title:text-is('{title}')"))


def brightness(seen) -> float:
    colour = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(x) for x in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def test_loads_draws_and_saves_without_complaint_or_network(page, look):
    seen = look(page)
    seen.ready()
    settled(seen)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [page.absolute().as_uri()]
    assert seen.page.locator(".plot").count() == seen.page.locator(".plot.js-plotly-plot").count() == 9
    # every kind of panel came to something
    for title, wanted in (
        ("lines", ".js-line"),
        ("points", "path.point"),
        ("map", ".hm image"),
        ("letters", ".hm image"),
    ):
        assert figure(seen, title).locator(wanted).count() > 0, title
    letters = figure(seen, "letters")
    assert "<b>GLY</b> 2" in letters.locator(".plot").text_content()
    assert letters.locator(".keys").inner_text().split("\n") == ["H helix", "E strand", "T turn", "coil"]

    with seen.page.expect_download() as saved:
        seen.page.click("button[data-table]:text-is('curve')")
    assert saved.value.suggested_filename == "curve.csv"
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    assert [float(row["x_A"]) for row in rows] == np.linspace(0.1, 10.0, 50).tolist()
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with seen.page.expect_download() as saved:
            letters.locator(f"button[data-plot={kind}]").click()
        assert saved.value.suggested_filename == f"every_letters.{kind}"
        assert Path(saved.value.path()).read_bytes().startswith(start)
    seen.page.set_viewport_size({"width": 390, "height": 800})
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert seen.complaints == []


def test_the_viewer_draws_moves_and_answers(page, look):
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

    canvas = seen.page.locator("canvas[data-part=canvas]")
    canvas.focus()
    pictures = [first]

    def changed() -> None:
        settled(seen)
        pictures.append(pixels(seen))
        assert pictures[-1] != pictures[-2]

    for key in ("ArrowLeft", "+", "."):
        seen.page.keyboard.press(key)
        changed()
    box = canvas.bounding_box()
    seen.page.mouse.move(box["x"] + 300, box["y"] + 100)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 380, box["y"] + 130, steps=2)
    seen.page.mouse.up()
    changed()
    seen.page.select_option("[data-part=style]", "spheres")
    changed()
    seen.page.select_option("[data-part=colour]", "molecule")
    changed()
    # an atom under the mouse says its name: spheres of ethanol fill the middle
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = seen.page.locator("[data-part=label]").inner_text()
    assert label[:2] in ("C ", "H ", "O ")
    seen.page.click("[data-part=play]")
    assert seen.page.locator("[data-part=play]").inner_text() == "Pause"
    seen.page.wait_for_timeout(500)
    seen.page.click("[data-part=play]")
    assert slider.input_value() != "1"
    with seen.page.expect_download() as saved:
        seen.page.click("[data-part=save]")
    assert Path(saved.value.path()).read_bytes()[:4] == b"\x89PNG"


def test_dark_light_and_paper(page, look):
    seen = look(page, color_scheme="dark")
    assert brightness(seen) < 60
    seen.page.click("#theme")
    assert brightness(seen) > 200
    seen.page.click("#theme")
    assert brightness(seen) < 60
    settled(seen)
    seen.page.emulate_media(media="print")
    assert brightness(seen) == 255
    assert not seen.page.locator(".contents").is_visible()
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
    paths = [run("<b>one<"), run("two", frames=5, temperature=350.0)]
    seen = look(write_report(paths, tmp_path / "both.html").path)
    seen.ready()
    settled(seen)
    assert seen.complaints == []
    assert seen.page.locator("h1").inner_text() == "<b>one< and two"
    legend = figure(seen, "lines").locator(".legendtext")
    assert legend.all_text_contents() == ["<b>one< · with band", "two · with band", "measured"]
    seen.page.select_option("[data-part=run]", "1")
    seen.page.wait_for_selector("[data-part=slider][max='4']", state="attached")
