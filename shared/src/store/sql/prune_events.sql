DELETE FROM virtuozo_core.events
 WHERE at < now() - make_interval(days => (SELECT event_keep_days FROM virtuozo_core.settings))
