"""Colours of pages: text can be read by day and by night."""

import numpy as np
import pytest

from p2p_sac_jax.report import theme


@pytest.mark.parametrize(
    "name", [n for n in theme.PALETTE if n.endswith(("ink", "text"))]
)
def test_text_can_be_read_in_light_and_dark(name):
    """WCAG 2.2, 1.4.3: contrast of text at least 4.5."""
    ground = "badge" if name == "badge-text" else "paper"
    for column in (0, 1):
        pair = sorted(
            map(luminance, (theme.PALETTE[n][column] for n in (name, ground)))
        )
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]
