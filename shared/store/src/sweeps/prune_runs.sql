-- The oldest ended runs that are too old or too many, with all that hangs on them: as many as have about $1
-- guests. A run with something still to be undone stays.
DELETE FROM virtuozo_core.runs
 WHERE id IN (
       SELECT id
         FROM (SELECT d.id, sum(n.guests) OVER (ORDER BY d.created_at, d.id) - n.guests AS guests_before
                 FROM (SELECT r.id, r.created_at
                         FROM virtuozo_core.runs r
                        WHERE r.state <> 'running'
                          AND (r.ended_at < now() - make_interval(days => (SELECT history_keep_days FROM virtuozo_core.settings))
                               OR (r.created_at, r.id) < (SELECT k.created_at, k.id
                                                            FROM virtuozo_core.runs k
                                                           WHERE k.state <> 'running'
                                                           ORDER BY k.created_at DESC, k.id DESC
                                                          OFFSET (SELECT history_keep_runs - 1 FROM virtuozo_core.settings)
                                                           LIMIT 1))
                          AND NOT EXISTS (SELECT 1
                                            FROM virtuozo_core.obligations o
                                            JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
                                           WHERE g.run_id = r.id)
                        ORDER BY r.created_at, r.id
                        LIMIT 100
                          FOR UPDATE SKIP LOCKED) d
                CROSS JOIN LATERAL (SELECT count(*) AS guests FROM virtuozo_core.guest_runs g WHERE g.run_id = d.id) n) x
        WHERE guests_before < $1)
