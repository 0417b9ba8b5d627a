"""One HTML page about a run, or several side by side."""

from heliodor.lazy import attach

__getattr__, __dir__ = attach(
    "heliodor.report", {"write_report": "heliodor.report.write", "Report": "heliodor.report.write"}
)

__all__ = ["Report", "write_report"]
