-- $1: how many at once. Numbers have gaps, so that many are kept at most.
DELETE FROM virtuozo_core.events
 WHERE id IN (
       (SELECT id FROM virtuozo_core.events
         WHERE at < now() - make_interval(days => (SELECT event_keep_days FROM virtuozo_core.settings))
         ORDER BY at LIMIT $1)
       UNION
       (SELECT id FROM virtuozo_core.events
         WHERE id <= (SELECT max(id) FROM virtuozo_core.events) - (SELECT event_keep_count FROM virtuozo_core.settings)
         ORDER BY id LIMIT $1))
