"""Reads run folders, never live objects: the report page and the table before and after."""

from groupwise.report.page import write_report
from groupwise.report.table import before_after_table

__all__ = ["before_after_table", "write_report"]
