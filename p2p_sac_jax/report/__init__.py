"""The report of a run or of a sweep: one page that can be sent to a colleague.

Everything comes from the files of the run's folder; nothing is measured anew.
"""

from __future__ import annotations

import pathlib

from p2p_sac_jax.ablation.results import is_sweep
from p2p_sac_jax.files import user_path, write_atomic
from p2p_sac_jax.report.contents import make_page
from p2p_sac_jax.report.page import render
from p2p_sac_jax.report.run_data import load_run_data
from p2p_sac_jax.report.sweep_data import load_sweep_data


def write_report(workdir: str | pathlib.Path) -> pathlib.Path:
    """Writes ``report.html`` of the run or sweep in ``workdir`` anew.

    The page holds everything it shows and asks the network for nothing. The same
    files give the same bytes.

    Args:
      workdir: folder of a run or of a sweep, finished or not.

    Returns:
      The path of the page.

    Raises:
      ConfigError: the folder holds neither or no results, a file is broken, or the
        extra `report` is not installed.
    """
    workdir = user_path(workdir, "workdir")
    if is_sweep(workdir):
        html = render(make_page(load_sweep_data(workdir)))
    else:
        run = load_run_data(workdir)
        html = render(make_page(run.data, run))
    path = workdir / "report.html"
    write_atomic(path, html.encode())
    return path
