SELECT kind, hosts, why FROM virtuozo_core.unserved_kinds ORDER BY kind
