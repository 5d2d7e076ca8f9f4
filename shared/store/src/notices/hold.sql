-- As many messages as an hour may have were sent already: it waits until the oldest of them is an hour old.
-- Not so the loudest: that a guest could not be brought back.
UPDATE virtuozo_core.notices n
   SET state = 'waiting', lease_until = NULL, owner_id = NULL, held = true, attempts = n.attempts - 1, run_after = f.at
  FROM (SELECT o.ended_at + interval '1 hour' AS at
          FROM virtuozo_core.notices o
         WHERE o.channel = $3 AND o.kind IN ('failure', 'success', 'obligation') AND o.state = 'sent'
           AND o.ended_at > now() - interval '1 hour'
         ORDER BY o.ended_at DESC
        OFFSET (SELECT messages_per_hour - 1 FROM virtuozo_core.notice_settings)
         LIMIT 1) f
 WHERE n.id = $1 AND n.fence = $2 AND n.kind <> 'obligation' AND n.sent_to = '{}'
RETURNING n.id, ceil(extract(epoch FROM n.run_after - now()))::integer AS delay_secs
