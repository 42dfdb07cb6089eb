"""Reads run folders, never live objects: the report page, and tables for a terminal."""

from groupwise.report.page import write_report
from groupwise.report.profile import profile_table
from groupwise.report.table import before_after_table

__all__ = ["before_after_table", "profile_table", "write_report"]
