"""Several runs in one section."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.analysis.show import Axis, Curve, Heat, Number, Panel, Shown
from heliodor.report.figures import POINTS, figure_json, packed
from heliodor.report.merge import merged

X = np.arange(5.0)


def shown(value: float, error: float | None, *curves: Curve, heat: Heat | None = None) -> Shown:
    panel = Panel("g(r)", Axis("r", "Å", 0.0, value), Axis("g"), curves, heat)
    return Shown("rdf", "RDF", (panel,), (Number("peak", value, error, "Å"),), ("same", f"own {value}"))


def test_curves_stand_together_and_measured_ones_once():
    measured = Curve("experiment", X, X, reference=True)
    both = merged(
        [shown(1.0, 0.3, Curve("O-O", X, X), measured), shown(2.0, 0.4, Curve("O-O", X, X), measured)], ["a", "b"]
    )
    (figure,) = both.figures
    assert [(d.curve.name, d.colour) for d in figure.drawn] == [("a · O-O", 0), ("b · O-O", 1), ("experiment", 0)]
    assert (figure.x.low, figure.x.high) == (0.0, 2.0)
    assert both.notes == ("same", "a: own 1.0", "b: own 2.0")


def test_differences_and_z():
    (row,) = merged([shown(1.0, 0.3), shown(2.0, 0.4)], ["a", "b"]).rows
    assert row.difference(1) == pytest.approx((1.0, 0.5, 2.0))
    (row,) = merged([shown(1.0, None), shown(2.0, 0.4)], ["a", "b"]).rows
    assert row.difference(1) == (1.0, None, None)
    (row,) = merged([None, shown(2.0, 0.4)], ["a", "b"]).rows
    assert row.numbers[0] is None
    assert np.isnan(row.difference(1)[0])


def test_maps_stand_side_by_side():
    heat = Heat(X, X, np.outer(X, X))
    both = merged([shown(1.0, None, heat=heat), shown(2.0, None, heat=heat)], ["a", "b"])
    assert [figure.title for figure in both.figures] == ["g(r), a", "g(r), b"]


def test_no_peak_is_lost_when_points_are_thinned():
    y = np.zeros(50 * POINTS)
    y[123_457] = 7.0
    y[9_999] = -3.0
    panel = Panel("", Axis("t"), Axis("y"), (Curve("", np.arange(len(y)) * 1.0, y),))
    (figure,) = merged([Shown("a", "A", (panel,))], ["run"]).figures
    kept = np.frombuffer(__import__("base64").b64decode(figure_json(figure)["curves"][0]["y"]), dtype="<f4")
    assert len(kept) <= POINTS
    assert (kept.max(), kept.min()) == (7.0, -3.0)
    assert packed(np.array([1.0])) == "AACAPw=="
