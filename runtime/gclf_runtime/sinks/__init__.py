"""Where rows, copies and pages go.

rows.py    what a row looks like, written and read back     files.py    rows on disk, kill-safe
parquet.py rows of JSON lines to Parquet                     sorting.py  pictures into class folders
markup.py  safe text and pictures of a page
report.py  what a page about a run needs                     report_page.py  that page
"""
