-- Every start of a process leaves one row for each queue behind.
DELETE FROM apalis.workers w
 WHERE w.last_seen < now() - interval '1 hour'
   AND NOT EXISTS (SELECT 1 FROM apalis.jobs j WHERE j.lock_by = w.id)
