DELETE FROM virtuozo.events
 WHERE at < now() - make_interval(days => (SELECT event_keep_days FROM virtuozo.settings))
