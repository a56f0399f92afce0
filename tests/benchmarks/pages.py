"""Write the pages in ``reports/`` anew from their records: run by hand after a change of the page.

python -m tests.benchmarks.pages
"""

from pathlib import Path

from sepconvert.workflows import render

REPORTS = Path(__file__).parents[2] / "reports"

if __name__ == "__main__":
    for record in sorted(REPORTS.glob("*.json")):
        page = record.with_suffix(".html")
        # ``peers`` compares methods on several models (tests/benchmarks/peers.py): it is no record of the tool.
        if page.exists() and record.stem != "peers":
            print(render(record, page, force=True))
