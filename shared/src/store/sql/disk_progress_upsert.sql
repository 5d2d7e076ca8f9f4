INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
SELECT $1, p.device, p.bytes_total, p.bytes_copied
  FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS p (device, bytes_total, bytes_copied)
ON CONFLICT (guest_run_id, device)
DO UPDATE SET bytes_total = EXCLUDED.bytes_total, bytes_copied = EXCLUDED.bytes_copied, updated_at = now()
