"""Reports: a study or a run as one HTML page, and the comparison table in a terminal or in markdown.

- `results.py`: the results file of a study, its form and its checks.
- `table.py`: the comparison table (rich, markdown).
- `page.py`: one self-contained HTML page of a study or a run; `charts.py`, `lineage.py` and `document.py`
  are its pieces, `page.css` and `page.js` its looks and its charts.
"""
