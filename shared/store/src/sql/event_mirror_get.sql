SELECT since::text, until::text, last_xact, last_id, max_id, version FROM virtuozo_core.event_mirror
