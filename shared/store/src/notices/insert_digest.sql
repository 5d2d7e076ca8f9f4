-- The digest of the day up to $1, by each way that is configured. Once, however many schedulers ask.
WITH moved AS (
    UPDATE virtuozo_core.notice_settings x SET digest_done_until = $1
     WHERE digest_time IS NOT NULL AND digest_done_until < $1
 RETURNING x AS settings
)
INSERT INTO virtuozo_core.notices (id, kind, channel, due_at)
SELECT gen_random_uuid(), 'digest', c.channel, $1
  FROM moved
 CROSS JOIN LATERAL virtuozo_core.notice_channels(moved.settings) c (channel)
    ON CONFLICT DO NOTHING
RETURNING id, 0 AS delay_secs
