SELECT name, machine, host, location, reason, noted_at, leaves_to_others
  FROM virtuozo_core.lacking_workers
 ORDER BY name, worker_id, location, host
