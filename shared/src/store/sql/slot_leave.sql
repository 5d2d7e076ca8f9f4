SELECT virtuozo_core.leave_slot($1, $2)
