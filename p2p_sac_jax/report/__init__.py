"""The report of a run or of a sweep: one page that can be sent to a colleague.

Everything comes from the files of the run's folder; nothing is measured anew.
"""

from p2p_sac_jax.report.html import write_report

__all__ = ["write_report"]
