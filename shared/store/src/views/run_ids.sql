-- The ids of all runs, newest first, to find the one whose beginning or end was given.
SELECT id FROM virtuozo_core.runs ORDER BY created_at DESC
