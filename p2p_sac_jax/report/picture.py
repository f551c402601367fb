"""The learning curves of one run as a picture of their own, for a page elsewhere."""

from __future__ import annotations

import pathlib

from p2p_sac_jax.report.learning_curves import cost_axes, panel_figure
from p2p_sac_jax.report.run_data import load_run_data

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"


def save_picture(workdir: str | pathlib.Path, path: str | pathlib.Path) -> pathlib.Path:
    """Writes the learning curves of a run as a stand-alone SVG.

    One line for each arm: the share of the best attainable profit that its learned
    policies earn in evaluation, mean over peers, and the historical price beside
    them. The same files give the same bytes.

    Args:
      workdir: folder of a run, finished or not.
      path: file to write, for example ``curve.svg``.

    Returns:
      The path written.

    Raises:
      ConfigError: the folder holds no run or no results, a file is broken, or the
        extra `report` is not installed.
    """
    path = pathlib.Path(path)
    data = load_run_data(pathlib.Path(workdir)).data
    figure = panel_figure(data, cost_axes(data)[0], "", "score", size=(6.4, 3.2))
    path.write_text(stand_alone(figure.svg), encoding="utf-8")
    return path


def stand_alone(svg: str) -> str:
    """What an SVG needs outside a page: name space, font, a ground to stand on."""
    head, body = svg.split(">", 1)
    namespace = ' xmlns="http://www.w3.org/2000/svg"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'{head}{namespace} font-family="{_FONT}">{ground}{body}\n'
