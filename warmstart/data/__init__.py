"""Data flows one way: sources -> curate -> rewrite -> mix -> batch."""
