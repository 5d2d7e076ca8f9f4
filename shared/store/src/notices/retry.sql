-- What failed in the last week, and what waits after a failure, is due at once, by the ways that are still configured.
UPDATE virtuozo_core.notices
   SET state = 'waiting', ended_at = NULL, attempts = 0, run_after = now(), refused_to = '{}'
 WHERE kind <> 'test'
   AND channel IN (SELECT virtuozo_core.notice_channels(s) FROM virtuozo_core.notice_settings s)
   AND ((state = 'failed' AND ended_at > now() - interval '7 days') OR (state = 'waiting' AND last_error IS NOT NULL))
RETURNING id, 0 AS delay_secs
