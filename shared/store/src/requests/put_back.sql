-- A lease whose holder does not know of it. Counts as no crash: nothing was done under it.
UPDATE virtuozo_core.requests SET state = 'waiting', lease_until = NULL, owner_id = NULL
 WHERE id = $1 AND owner_id = $2 AND state = 'running'
