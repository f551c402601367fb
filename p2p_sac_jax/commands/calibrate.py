"""Regenerates the calibration table from bayesm's orange juice data.

    p2p-sac-calibrate --output=table.csv        # downloads the Debian package
    p2p-sac-calibrate --package=r-cran-bayesm.deb --output=table.csv
    p2p-sac-calibrate --rda=orangeJuice.rda --check

Needs the PyPI package rdata, and apt-get and dpkg-deb unless --rda is given; not R.
"""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments import calibration, estimation
from p2p_sac_jax.files import write_atomic

PACKAGE = "r-cran-bayesm"
TOLERANCE = 1e-6

PROGRAM = Program(__doc__)
_PACKAGE = PROGRAM.path("package", "", "the Debian package of bayesm (.deb)")
_RDA = PROGRAM.path("rda", "", "orangeJuice.rda; takes the place of the package")
_OUTPUT = PROGRAM.path("output", "", "file to write the table to (.csv)")
_CHECK = PROGRAM.boolean(
    "check",
    False,
    f"compare with the shipped table to {TOLERANCE:g}; the default without --output",
)


@PROGRAM.main
def main() -> None:
    """Writes or checks the table."""
    with tempfile.TemporaryDirectory() as folder:
        rda = _RDA.value or unpack(_PACKAGE.value or download(folder), folder)
        table = make_table(rda)
    # Compare first: the output may be the shipped table itself.
    if _CHECK.value or not _OUTPUT.value:
        worst = largest_difference(table, calibration.load_table())
        print(f"largest difference from the shipped table: {worst:.2g}")
        if not worst <= TOLERANCE:
            raise ConfigError(f"the table differs by more than {TOLERANCE:g}")
    if _OUTPUT.value:
        write_atomic(_OUTPUT.value, calibration.format_table(table).encode("ascii"))
        print(f"{len(table['store'])} rows written to {_OUTPUT.value}")


def download(folder: str) -> Path:
    """Path of the Debian package, fetched into ``folder`` by apt-get."""
    _call(["apt-get", "download", PACKAGE], folder)
    found = sorted(Path(folder).glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise ConfigError(f"apt-get download {PACKAGE} left no package")
    return found[0]


def unpack(package: Path, folder: str) -> Path:
    """Path of orangeJuice.rda, unpacked from ``package`` below ``folder``."""
    if not package.is_file():
        raise ConfigError(f"no such package: {package}")
    _call(["dpkg-deb", "-x", str(package.resolve()), "x"], folder)
    found = sorted(Path(folder, "x").rglob("orangeJuice.rda"))
    if not found:
        raise ConfigError(f"{package} holds no orangeJuice.rda")
    return found[0]


def make_table(rda: Path) -> calibration.Table:
    """The whole table, demographics included, from orangeJuice.rda."""
    try:
        import rdata
    except ImportError as error:
        raise ConfigError(
            "the table needs rdata: pip install 'p2p-sac-jax[calibrate]'"
        ) from error
    if not rda.is_file():
        raise ConfigError(f"no such file: {rda}")
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
    except Exception as error:  # a damaged file raises anything in rdata
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{rda} is not bayesm's orange juice data ({reason})"
        ) from error
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
        raise ConfigError(
            f"{command[0]} is missing: give --rda=orangeJuice.rda instead"
        ) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit {error.returncode}"]
        raise ConfigError(f"{' '.join(command)} failed: {lines[-1]}") from error


if __name__ == "__main__":
    main()
