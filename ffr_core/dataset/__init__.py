"""Reading, checking and building dialogue corpora."""
