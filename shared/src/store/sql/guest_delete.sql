DELETE FROM virtuozo.guests WHERE id = $1
