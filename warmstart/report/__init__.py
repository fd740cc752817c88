"""Reports: a study or a run as one HTML page, tables, model cards."""
