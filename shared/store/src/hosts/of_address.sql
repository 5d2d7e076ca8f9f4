-- A host with another name than $1's or $3 that is reached under this address.
SELECT name FROM virtuozo_core.hosts
 WHERE id <> $1 AND name <> $3 AND lower(rtrim(address, '/')) = lower(rtrim($2, '/'))
 ORDER BY name
 LIMIT 1
