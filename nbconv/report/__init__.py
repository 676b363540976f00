"""A training run as files, and as one page to read."""

from nbconv.report.page import report
from nbconv.report.run import Run, load_run, save_run, write_text

__all__ = ["Run", "load_run", "report", "save_run", "write_text"]
