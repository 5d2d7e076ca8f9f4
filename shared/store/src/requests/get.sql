SELECT id, kind, host_id, state, taken_by, answer, error, error_class FROM virtuozo_core.requests WHERE id = $1
