-- What should go on by itself and does not: one row each, with the reason and what to do about it. Notices that were
-- given up are told for as long as `virtuozo notice retry` sends them again, one row for each way of telling.

CREATE OR REPLACE VIEW virtuozo.stuck AS
SELECT 'no_scheduler' AS kind, NULL::uuid AS id, NULL AS host, NULL AS guest,
       (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'scheduler') AS since,
       'no scheduler gives a sign of life' AS reason, 'start virtuozo scheduler' AS advice
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'scheduler' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
   AND virtuozo_core.is_settled()
UNION ALL
SELECT 'no_worker', NULL, NULL, NULL, (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'worker'),
       'no worker gives a sign of life, and there is work', 'start virtuozo worker'
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
   AND EXISTS (SELECT 1 FROM virtuozo_core.runs WHERE state = 'running')
   AND virtuozo_core.is_settled()
UNION ALL
SELECT 'kind', h.id, h.name, NULL, NULL,
       format('no running worker serves hosts of the kind %s, and there is work: %s', h.kind, array_to_string(k.why, '; ')),
       'mend what is missing there, or start a worker on a machine that has it'
  FROM virtuozo_core.unserved_kinds k
  JOIN virtuozo_core.hosts h ON h.kind = k.kind
 WHERE k.why <> '{}'
   AND (EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state IN ('waiting', 'admitted'))
        OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued')
        OR EXISTS (SELECT 1 FROM virtuozo_core.obligations o WHERE o.host_id = h.id))
UNION ALL
SELECT 'lease', g.id, h.name, u.name, g.lease_until, format('its worker is silent in step %s', coalesce(g.step, 'validate')),
       'a scheduler hands it to another worker; see that one runs'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 CROSS JOIN virtuozo_core.settings s
 WHERE g.state = 'running' AND g.lease_until < now() - make_interval(secs => s.lease_secs)
   AND virtuozo_core.is_settled()
UNION ALL
SELECT g.step, g.id, h.name, u.name, p.at,
       format('its %s has not moved on for %s', CASE g.step WHEN 'copy' THEN 'copy' ELSE 'verification' END,
              date_trunc('second', now() - p.at)),
       CASE g.step WHEN 'copy' THEN 'look at the host''s storage and the destination' ELSE 'look at the destination' END
       || '; virtuozo.cancel() stops it'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.steps s ON s.guest_run_id = g.id AND s.fence = g.fence AND s.name = g.step
 -- What has read nothing yet stands still since its step began.
 CROSS JOIN LATERAL (SELECT greatest(g.progress_at, s.started_at) AS at) p
 WHERE g.state = 'running' AND g.step IN ('copy', 'verify') AND p.at < now() - interval '10 minutes'
UNION ALL
SELECT 'files', g.id, h.name, u.name, w.since,
       format('%s have not answered for %s s', w.what, floor(extract(epoch FROM now() - w.since))),
       format('see whether the file system is mounted and its server answers; it is given up after file_silence_secs (%s)',
              s.file_silence_secs)
  FROM virtuozo_core.file_waits w
  JOIN virtuozo_core.guest_runs g ON g.id = w.guest_run_id AND g.fence = w.fence
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 CROSS JOIN virtuozo_core.settings s
 WHERE g.state = 'running'
UNION ALL
SELECT 'admitted', g.id, h.name, u.name, g.admitted_at, 'it has a slot, and no worker has taken it',
       'start more workers, or see whether they reach the host'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 WHERE g.state = 'admitted' AND g.admitted_at < now() - interval '2 minutes'
UNION ALL
SELECT 'host', r.id, h.name, NULL, r.run_after, 'its host run is due, and no worker has taken it',
       'start more workers: one serves host_threads hosts at a time'
  FROM virtuozo_core.host_runs r JOIN virtuozo_core.hosts h ON h.id = r.host_id
 WHERE r.state = 'queued' AND r.run_after < now() - interval '2 minutes' AND virtuozo_core.host_run_obstacle(r) IS NULL
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = r.host_id)
UNION ALL
SELECT 'obligation', o.id, h.name, u.name, o.created_at,
       format('%s could not be undone in %s attempts: %s', CASE o.kind WHEN 'power_on' THEN 'a power off' ELSE 'the snapshot ' || o.snapshot_name END,
              o.attempts, o.last_error),
       format('mend the cause on the host, or undo it there by hand: the next attempt sees that; where neither can ever be, '
              'virtuozo obligation forgive %s --reason WHY', right(replace(o.id::text, '-', ''), 8))
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
 WHERE o.attempts >= 3
UNION ALL
SELECT 'host_down', h.id, h.name, NULL, x.opened_at, 'it ' || virtuozo_core.down_reason(h.id),
       CASE WHEN x.login_refused
            THEN format('mend its password or user: virtuozo host password %1$s, virtuozo host edit %1$s --user USER; it is tried at once', virtuozo_core.shell_word(h.name))
            ELSE format('start the host, or mend its address; virtuozo host check %s looks at once', virtuozo_core.shell_word(h.name)) END
  FROM virtuozo_core.circuit_breakers x
  JOIN virtuozo_core.hosts h ON h.id = x.host_id
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting')
    OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued')
    OR EXISTS (SELECT 1 FROM virtuozo_core.obligations o WHERE o.host_id = h.id)
UNION ALL
SELECT 'notice', NULL, NULL, NULL, min(n.ended_at),
       format('%s by %s could not be sent: %s', CASE count(*) WHEN 1 THEN 'a notice' ELSE count(*) || ' notices' END,
              n.channel, (array_agg(n.last_error ORDER BY n.ended_at DESC))[1]),
       format('mend the cause, which virtuozo notice test %s tries out; virtuozo notice retry sends again', n.channel)
  FROM virtuozo_core.notices n
 WHERE n.state = 'failed' AND n.kind <> 'test' AND n.ended_at > now() - interval '7 days'
   -- By a way of telling that was taken away nothing is sent any more.
   AND n.channel IN (SELECT virtuozo_core.notice_channels(s) FROM virtuozo_core.notice_settings s)
 GROUP BY n.channel
UNION ALL
SELECT 'paused', NULL, NULL, NULL, s.paused_at, format('all hosts are paused%s, and work waits for that', ' by ' || s.paused_by),
       'virtuozo host resume all'
  FROM virtuozo_core.settings s
 WHERE s.paused_at IS NOT NULL
   AND (EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.state = 'waiting')
        OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.state = 'queued'))
UNION ALL
SELECT 'paused', h.id, h.name, NULL, p.since, format('it %s, and work waits for that', virtuozo_core.pause_reason(h.id)),
       format('virtuozo host resume %s', virtuozo_core.shell_word(h.name))
  FROM virtuozo_core.paused_hosts p JOIN virtuozo_core.hosts h ON h.id = p.host_id
 WHERE NOT p.with_all
   AND (EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting')
        OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued'))
UNION ALL
SELECT 'future_point', p.id, p.host_name, p.guest_name, p.published_at,
       format('its restore point of %s is dated in the future, and covers no other one',
              to_char(p.taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI UTC')),
       format('if a clock was wrong, set it right on the database''s machine and the workers''; then, or if nobody of yours '
              'made it: virtuozo point delete --force %s', right(replace(p.id::text, '-', ''), 8))
  FROM virtuozo_core.restore_points p
 WHERE p.taken_at > now() + interval '5 minutes' AND p.state <> 'deleting';
