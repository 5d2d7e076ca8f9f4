-- A guest that somebody takes over has not been looked at in that light yet.
UPDATE virtuozo.guests
   SET configured = $2, ignored = $3, destination = $4, mode = $5, resume_power_state = $6,
       backup_when_off = $7, keep_last = $8,
       state = CASE WHEN $2 AND state = 'not_configured' THEN 'unknown'
                    WHEN NOT $2 AND state <> 'not_in_inventory' THEN 'not_configured'
                    ELSE state END,
       state_reason = CASE WHEN $2 = configured THEN state_reason END,
       updated_at = now()
 WHERE id = $1
