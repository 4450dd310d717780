"""The admin pages. `rooms` registers them; `apps` opens it once the site stands."""
