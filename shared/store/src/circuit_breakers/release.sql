-- The probe is given up; the next who asks may try.
UPDATE virtuozo_core.circuit_breakers SET owner_id = NULL, lease_until = NULL WHERE host_id = $1 AND fence = $2 AND owner_id = $3
