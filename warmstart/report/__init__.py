"""Reports: a study or a run as one HTML page, and the comparison table in a terminal or in markdown.

- `results.py`: the results file of a study, its form and its checks.
- `table.py`: the comparison table (rich, markdown).
- `page.py`: one self-contained HTML page of a study or a run; `charts.py`, `lineage.py` and `document.py`
  are its pieces, `page.css` and `page.js` its looks and its charts.
- `gallery.py`: every system with its claim and our verdict; in markdown for the docs, as HTML and in a terminal by
  `gallery_markdown.py`, `gallery_html.py` and `gallery_terminal.py`; `figure.py` draws a study's results as SVG.
"""
