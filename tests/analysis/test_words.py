"""Values and errors as people write them."""

import pytest

from heliodor.analysis.words import value_with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.23146, 0.0118, "0.231 ± 0.012"),
        (1.0, 0.5, "1.00 ± 0.50"),
        (123.4, 12.0, "123 ± 12"),
        (12345.6, 120.0, "12346 ± 120"),
        (-3.14159, 0.0021, "-3.1416 ± 0.0021"),
        (2.0, None, "2"),
        (2.0, 0.0, "2"),
        (2.0, float("nan"), "2"),
        (float("nan"), 0.1, "not known"),
        (0.00001234, 0.0000021, "1.23e-05 ± 2.1e-06"),
        (123456789.0, 1200.0, "1.234568e+08 ± 1.2e+03"),
        (0.0, 0.013, "0.000 ± 0.013"),
    ],
)
def test_value_with_error(value, error, text):
    assert value_with_error(value, error) == text
