-- Hosts from which nothing new is backed up, or which cannot be used.
SELECT h.name, h.ignored, coalesce(h.paused_at, s.paused_at) AS paused_at, h.state, h.state_reason, h.checked_at
  FROM virtuozo_core.hosts h
 CROSS JOIN virtuozo_core.settings s
 WHERE h.ignored OR coalesce(h.paused_at, s.paused_at) IS NOT NULL OR h.state IN ('unreachable', 'invalid')
 ORDER BY h.name
