UPDATE virtuozo_core.disks SET ignored = $3 WHERE guest_id = $1 AND device = $2
