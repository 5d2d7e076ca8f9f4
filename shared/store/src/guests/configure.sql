-- Somebody takes over a guest that was only reported.
UPDATE virtuozo_core.guests
   SET configured = true, updated_at = now(),
       state = CASE WHEN state = 'not_configured' THEN 'unknown' ELSE state END
 WHERE id = $1 AND NOT configured
