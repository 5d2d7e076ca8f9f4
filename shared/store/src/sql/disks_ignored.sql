SELECT device FROM virtuozo_core.disks WHERE guest_id = $1 AND ignored
