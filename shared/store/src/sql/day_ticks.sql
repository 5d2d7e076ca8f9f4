SELECT schedule_id, due_at FROM virtuozo_core.ticks WHERE due_at > $1 AND due_at <= $2
