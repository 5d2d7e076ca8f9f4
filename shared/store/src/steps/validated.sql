-- The record of a validation, the begin of the step after it, what was seen of the guest, and, if $6 is given, that
-- a snapshot is about to be taken. The time; none, or no row: the lease is lost.
SELECT CASE WHEN $6::uuid IS NULL THEN now() ELSE virtuozo_core.record_snapshot_obligation($1, $2, $6, $7) END,
       virtuozo_core.guest_seen($8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
 WHERE virtuozo_core.step_done($1, $2, 'validate', $3, $4, $5, '{}', '{}', '{}', '{}', '{}')
