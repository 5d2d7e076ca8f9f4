SELECT id, host, guest, vmx_path, rpo_secs, last_point_at, age_secs, exceeded
  FROM virtuozo.rpo
 ORDER BY host, guest, vmx_path
