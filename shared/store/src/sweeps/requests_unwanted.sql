-- Who asked is gone without saying so.
UPDATE virtuozo_core.requests SET state = 'cancelled', lease_until = NULL, owner_id = NULL, ended_at = now()
 WHERE id IN (SELECT id FROM virtuozo_core.requests
               WHERE state IN ('waiting', 'running') AND wanted_until < now()
                 FOR UPDATE SKIP LOCKED)
