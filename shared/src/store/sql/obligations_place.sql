SELECT host_id FROM virtuozo.obligations WHERE guest_id = $1 LIMIT 1
