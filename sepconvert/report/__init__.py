"""One record becomes one self-contained HTML page."""
