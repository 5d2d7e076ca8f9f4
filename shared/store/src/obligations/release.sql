UPDATE virtuozo_core.obligations SET owner_id = NULL, lease_until = NULL
 WHERE guest_id = $1 AND fence = $2 AND owner_id = $3
