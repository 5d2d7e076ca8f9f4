-- $1: how many at once. Those of runs go with their run.
DELETE FROM virtuozo_core.notices
 WHERE id IN (SELECT id FROM virtuozo_core.notices
               WHERE ended_at < now() - make_interval(days => (SELECT history_keep_days FROM virtuozo_core.settings))
               ORDER BY ended_at LIMIT $1)
