"""Counters: numbers of users, forms and submissions, folded from the log by one subscription."""
