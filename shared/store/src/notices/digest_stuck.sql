SELECT coalesce(host || '/' || guest, host) AS about, since, reason, advice FROM virtuozo.stuck ORDER BY since NULLS FIRST
