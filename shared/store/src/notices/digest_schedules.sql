-- Since when each schedule is as it is.
SELECT id, updated_at FROM virtuozo_core.schedules
