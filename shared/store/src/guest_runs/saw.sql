-- What a guest run has seen of its guest, if its lease is its own.
SELECT virtuozo_core.guest_seen(guest_id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
  FROM virtuozo_core.guest_runs
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
