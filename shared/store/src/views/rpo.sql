SELECT id, host, guest, locator, rpo_secs, last_point_at, age_secs, exceeded
  FROM virtuozo.rpo
 ORDER BY host, guest, locator
