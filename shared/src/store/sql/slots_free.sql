SELECT virtuozo_core.free_slots($1::uuid[])
