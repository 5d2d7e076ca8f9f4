-- What is to be told about the run $1, by each way that is configured; $2: the kind. What waits already is
-- told as the run stands when it is sent.
INSERT INTO virtuozo_core.notices (id, kind, channel, run_id, run_after)
SELECT gen_random_uuid(), $2, c.channel, $1, now() + make_interval(secs => s.group_secs)
  FROM virtuozo_core.notice_settings s
 CROSS JOIN LATERAL virtuozo_core.notice_channels(s) c (channel)
 WHERE CASE $2 WHEN 'success' THEN s.on_success ELSE s.on_failure END
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.notices n
                    WHERE n.run_id = $1 AND n.kind = $2 AND n.channel = c.channel AND n.state = 'waiting')
RETURNING id, ceil(extract(epoch FROM run_after - now()))::integer AS delay_secs
