UPDATE virtuozo_core.obligations SET claim_id = NULL, claimed_until = NULL WHERE guest_id = $1 AND claim_id = $2
