-- What was there, and notices that were given up, for as long as `virtuozo notice retry` sends them again: one
-- line for each way, however many they are.
CREATE OR REPLACE VIEW virtuozo.stuck AS
SELECT w.* FROM virtuozo_core.stuck_work w
 WHERE w.kind <> 'host'
    OR w.host NOT IN (SELECT h.name FROM virtuozo_core.hosts h JOIN virtuozo_core.host_gates x ON x.host_id = h.id)
UNION ALL
SELECT 'host_down', h.id, h.name, NULL, x.shut_at, 'it ' || virtuozo_core.down_reason(h.id),
       'start the host, or mend its address; virtuozo host check looks at once'
  FROM virtuozo_core.host_gates x
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
 GROUP BY n.channel;

SELECT virtuozo_core.grant_roles();
