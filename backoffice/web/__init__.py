"""Generic pages over a kind of record: list, record, history, forms, differences."""
