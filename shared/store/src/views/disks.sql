-- Disks with the progress of the copy that runs, for `status`.
SELECT d.id, d.guest_id, d.device, d.file_name, d.ignored, d.capacity_bytes, d.state, d.state_reason,
       p.bytes_total, p.bytes_copied
FROM virtuozo_core.disks d
LEFT JOIN virtuozo_core.guest_runs r ON r.guest_id = d.guest_id AND r.state = 'running' AND r.step = 'copy'
LEFT JOIN virtuozo_core.disk_progress p ON p.guest_run_id = r.id AND p.device = d.device
ORDER BY d.device
