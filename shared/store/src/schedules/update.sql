-- With another rhythm, or switched on again, it is due from now on: the past is not caught up.
UPDATE virtuozo_core.schedules
   SET done_until = CASE WHEN cron IS DISTINCT FROM $3 OR time_zone IS DISTINCT FROM $4 OR ($5 AND NOT enabled)
                         THEN greatest(done_until, now()) ELSE done_until END,
       name = $2, cron = $3, time_zone = $4, enabled = $5, updated_at = now()
 WHERE id = $1
