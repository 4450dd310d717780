"""Storage of the static files in production: every name contains the hash of its content, in imports too."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedModules(CompressedManifestStaticFilesStorage):  # type: ignore[misc] # WhiteNoise has no types
    """Replaces the names also in the `import` statements of scripts.

    Without that, a page of a new release imports modules that a browser or proxy still caches from the old one.
    """

    support_js_module_import_aggregation = True
    max_post_process_passes = 25  # one for each step of the longest chain of imports
