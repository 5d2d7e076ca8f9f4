-- A verification found every byte as it was written. $1: the restore point, $2: where they were read from, $3: the hash
-- of its manifest.
UPDATE virtuozo_core.restore_points SET verified_at = now(), state = 'published', damage = NULL, read_back = $2,
       manifest_blake3 = coalesce(manifest_blake3, $3)
WHERE id = $1 AND state <> 'deleting'
