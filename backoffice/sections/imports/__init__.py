"""Imports exports of survey tools as forms and submissions: `rows.plan` reads (pure), `run.carry_out` writes."""
