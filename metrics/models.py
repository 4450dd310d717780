"""All models of the read side, for Django."""

from __future__ import annotations

from metrics.materialized.models import ViewFreshness

__all__ = ["ViewFreshness"]
