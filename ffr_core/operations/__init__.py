"""Running a system: backup and restore, retention, structured logs."""
