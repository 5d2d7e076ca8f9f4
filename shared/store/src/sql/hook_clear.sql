DELETE FROM virtuozo_core.hooks WHERE guest_id IS NOT DISTINCT FROM $1 AND moment = $2
