"""Command-line programs: short absl mains over the importable package."""
