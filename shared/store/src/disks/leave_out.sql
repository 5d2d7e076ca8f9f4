-- Validation fills in the rest when it finds the disk.
INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, ignored)
VALUES (gen_random_uuid(), $1, $2, '', true)
ON CONFLICT (guest_id, device) DO UPDATE SET ignored = true
