-- $1: only those that failed or have failed attempts; $2: how many.
SELECT id, kind, channel, run_id, due_at, state, folded_into, held, attempts, run_after, sent_to, refused_to,
       last_error, created_at, ended_at
  FROM virtuozo_core.notices
 WHERE NOT $1 OR state = 'failed' OR (state = 'waiting' AND last_error IS NOT NULL) OR refused_to <> '{}'
 ORDER BY created_at DESC, id
 LIMIT $2
