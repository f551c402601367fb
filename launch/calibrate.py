"""Regenerates the calibration table from bayesm's orange juice data.

    python -m launch.calibrate --output=table.csv        # downloads the Debian package
    python -m launch.calibrate --package=r-cran-bayesm.deb --output=table.csv
    python -m launch.calibrate --rda=orangeJuice.rda --check

Needs the PyPI package ``rdata``, and ``apt-get`` and ``dpkg-deb`` unless ``--rda`` is
given. R itself is not needed. ``--check`` compares with the shipped table to 1e-6.
Exits 0 if done, 2 with one line on stderr if not.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from absl import app, flags

from p2p_sac_jax.environments import calibration, estimation

PACKAGE = "r-cran-bayesm"
TOLERANCE = 1e-6

_PACKAGE = flags.DEFINE_string("package", "", "The Debian package of bayesm (.deb).")
_RDA = flags.DEFINE_string("rda", "", "orangeJuice.rda itself; no package then.")
_OUTPUT = flags.DEFINE_string("output", "", "Where to write the table (.csv).")
_CHECK = flags.DEFINE_bool(
    "check", False, "Compare with the shipped table; the default without --output."
)


class CalibrationError(Exception):
    """What the user can put right; the message is one line."""


def main(argv: Sequence[str]) -> None:
    """Writes or checks the table."""
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            rda = _RDA.value or unpack(_PACKAGE.value or download(folder), folder)
            table = make_table(rda)
        # Compare first: the output may be the shipped table itself.
        if _CHECK.value or not _OUTPUT.value:
            worst = largest_difference(table, calibration.load_table())
            print(f"largest difference from the shipped table: {worst:.2g}")
            if not worst <= TOLERANCE:
                raise CalibrationError(f"the table differs by more than {TOLERANCE:g}")
        if _OUTPUT.value:
            text = calibration.format_table(table)
            pathlib.Path(_OUTPUT.value).write_text(text, encoding="ascii")
            print(f"{len(table['store'])} rows written to {_OUTPUT.value}")
    except (CalibrationError, OSError) as error:
        _fail(str(error))


def download(folder: str) -> str:
    """Path of the Debian package, fetched into ``folder`` by apt-get."""
    _call(["apt-get", "download", PACKAGE], folder)
    found = sorted(pathlib.Path(folder).glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise CalibrationError(f"apt-get download {PACKAGE} left no package")
    return str(found[0])


def unpack(package: str, folder: str) -> str:
    """Path of orangeJuice.rda, unpacked from ``package`` below ``folder``."""
    if not pathlib.Path(package).is_file():
        raise CalibrationError(f"no such package: {package}")
    _call(["dpkg-deb", "-x", str(pathlib.Path(package).resolve()), "x"], folder)
    found = sorted(pathlib.Path(folder, "x").rglob("orangeJuice.rda"))
    if not found:
        raise CalibrationError(f"{package} holds no orangeJuice.rda")
    return str(found[0])


def make_table(rda: str) -> calibration.Table:
    """The whole table, demographics included, from orangeJuice.rda."""
    try:
        import rdata
    except ImportError as error:
        raise CalibrationError(
            "the PyPI package rdata is missing: pip install rdata"
        ) from error
    if not pathlib.Path(rda).is_file():
        raise CalibrationError(f"no such file: {rda}")
    try:
        with warnings.catch_warnings():  # rdata warns before it fails: one line will do
            warnings.simplefilter("ignore")
            data = rdata.read_rda(rda)["orangeJuice"]
        sales, stores = data["yx"], data["storedemo"]
        prices = [name for name in sales if name.startswith("price")]
        panel = estimation.Panel(
            *(sales[name].to_numpy(np.int64) for name in ("store", "brand", "week")),
            log_units=sales["logmove"].to_numpy(np.float64),
            prices=sales[prices].to_numpy(np.float64),
            feature=sales["feat"].to_numpy(np.float64),
            deal=sales["deal"].to_numpy(np.float64),
            margin=sales["profit"].to_numpy(np.float64),
        )
        ids = stores["STORE"].to_numpy(np.int64)
        demographics = {
            name: estimation.standardise(stores[name.upper()].to_numpy(np.float64))
            for name in calibration.DEMOGRAPHICS
        }
        table = estimation.estimate_table(panel)
        where = {store: row for row, store in enumerate(ids)}
        rows = [where[store] for store in table["store"]]
    except (KeyError, ValueError, TypeError, EOFError, NotImplementedError) as error:
        raise CalibrationError(f"{rda} is not bayesm's orange juice data") from error
    return table | {name: column[rows] for name, column in demographics.items()}


def largest_difference(table: calibration.Table, shipped: calibration.Table) -> float:
    """Largest |a - b| / max(1, |b|) over all entries; inf where shapes differ."""
    if list(table) != list(shipped) or len(table["store"]) != len(shipped["store"]):
        return float("inf")
    gaps = [
        np.abs(table[name] - shipped[name]) / np.maximum(1.0, np.abs(shipped[name]))
        for name in shipped
    ]
    return float(np.max(gaps))


def _call(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CalibrationError(
            f"{command[0]} is missing: give --rda=orangeJuice.rda instead"
        ) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit {error.returncode}"]
        raise CalibrationError(f"{' '.join(command)} failed: {lines[-1]}") from error


def _fail(message: str) -> NoReturn:
    print(f"calibrate: {message}", file=sys.stderr)
    sys.exit(2)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(str(error))


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
