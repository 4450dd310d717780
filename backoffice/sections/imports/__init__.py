"""Exports of survey tools -> forms and submissions: `rows.plan` reads (pure), `run.carry_out` writes."""
