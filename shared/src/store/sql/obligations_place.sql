SELECT host_id FROM virtuozo_core.obligations WHERE guest_id = $1 LIMIT 1
