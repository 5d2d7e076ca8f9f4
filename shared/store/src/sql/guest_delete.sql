DELETE FROM virtuozo_core.guests WHERE id = $1
