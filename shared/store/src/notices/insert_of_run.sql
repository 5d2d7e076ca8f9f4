-- What is to be told about the run $1, by each way that is configured; $2: the kind. What waits already is
-- told as the run stands when it is sent. It is locked until this is committed: whoever takes it now would see
-- the run as it was before, and would drop it or tell of that.
WITH waits AS (
    SELECT n.channel
      FROM virtuozo_core.notices n
     WHERE n.run_id = $1 AND n.kind = $2 AND n.state = 'waiting'
       FOR NO KEY UPDATE
)
INSERT INTO virtuozo_core.notices (id, kind, channel, run_id, run_after)
SELECT gen_random_uuid(), $2, c.channel, $1, now() + make_interval(secs => s.group_secs)
  FROM virtuozo_core.notice_settings s
 CROSS JOIN LATERAL virtuozo_core.notice_channels(s) c (channel)
 WHERE CASE $2 WHEN 'success' THEN s.on_success ELSE s.on_failure END
   AND NOT EXISTS (SELECT 1 FROM waits WHERE waits.channel = c.channel)
RETURNING id, ceil(extract(epoch FROM run_after - now()))::integer AS delay_secs
