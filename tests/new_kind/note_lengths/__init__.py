"""Lengths of notes, which a higher section adds to notes. The test copies it to `metrics/note_lengths`."""
